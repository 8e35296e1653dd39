"""`cortex pull`: the real process against a hub on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fake_hub import FakeHub, fake_hub
from helpers.gguf_bytes import tiny

REPO = "org/repo-GGUF"
FILES = {"repo-Q8_0.gguf": tiny(3000), "repo-Q4_K_M.gguf": tiny(3001)}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as hub:
        hub.repos[REPO] = dict(FILES)
        yield hub


def pull(hub: FakeHub, folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cortex", "pull", *arguments, "--to", str(folder)]
    settings = {"HF_ENDPOINT": hub.endpoint, "HOME": str(folder), **environ}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=settings)


@pytest.mark.parametrize(("quant", "file"), [(":Q8_0", "repo-Q8_0.gguf"), (":q4_k_m", "repo-Q4_K_M.gguf")])
def test_a_model_is_downloaded_to_the_named_folder(hub: FakeHub, tmp_path: Path, quant: str, file: str) -> None:
    """The path of the file is all that stdout has; what happens is told on stderr."""
    done = pull(hub, tmp_path, REPO + quant)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path == tmp_path / REPO / file
    assert path.read_bytes() == FILES[file]
    assert f"{REPO}: fetching" in done.stderr


def test_a_script_gets_json(hub: FakeHub, tmp_path: Path) -> None:
    """`--json` says what was fetched, and where its files are."""
    done = pull(hub, tmp_path, REPO, "--json")
    file = tmp_path / REPO / "repo-Q4_K_M.gguf"
    told = json.loads(done.stdout)
    assert (told["model_id"], told["quant"], told["files"], told["mmproj"]) == (REPO, "Q4_K_M", [str(file)], None)
    assert told["size_bytes"] == file.stat().st_size


def test_without_a_folder_it_goes_to_the_hubs_own_cache(hub: FakeHub, tmp_path: Path) -> None:
    """Then a neuron of this user finds it, and so does the hub's own library."""
    settings = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "cortex", "pull", REPO]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=settings)
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "cache" / "models--org--repo-GGUF" / "snapshots")


@pytest.mark.parametrize(
    ("model", "code", "says"),
    [
        ("no-repository", 2, "say ORG/NAME or ORG/NAME:QUANT"),
        ("org/absent", 1, "org/absent"),
        (f"{REPO}:Q5_K_M", 1, "Q4_K_M"),
    ],
)
def test_what_cannot_be_pulled_is_one_sentence(hub: FakeHub, tmp_path: Path, model: str, code: int, says: str) -> None:
    """A malformed name is a usage mistake; an absent repository or quant is a no, with what there is."""
    done = pull(hub, tmp_path, model)
    assert done.returncode == code
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_what_came_broken_has_an_exit_code_of_its_own(hub: FakeHub, tmp_path: Path) -> None:
    """A script can tell a damaged file from one that is not there."""
    hub.false_sha = True
    done = pull(hub, tmp_path, REPO)
    assert done.returncode == 4
    assert "'repo-Q4_K_M.gguf' came broken" in done.stderr


def test_without_a_connection_the_answer_comes_at_once(hub: FakeHub, tmp_path: Path) -> None:
    """HF_HUB_OFFLINE is honoured, and named as the reason."""
    done = pull(hub, tmp_path, REPO, HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert "HF_HUB_OFFLINE is set" in done.stderr
    assert hub.seen == []

"""Fetching into a folder that a neuron may have as its models_dir: plain files, continued and verified."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fake_hub import FakeHub, fake_hub
from helpers.gguf_bytes import tiny

from cortex.errors import CortexError
from cortex.neuron.models.source import Hub, LocalModel, Scanner

REPO = "org/repo-GGUF"
Q4, PART_1, PART_2 = (tiny(3000 + number, general__name=str(number)) for number in range(3))
PROJECTOR = tiny(10, general__architecture="clip")
FILES = {
    "mmproj-F16.gguf": PROJECTOR,
    "repo-Q4_K_M.gguf": Q4,
    "BF16/repo-BF16-00001-of-00002.gguf": PART_1,
    "BF16/repo-BF16-00002-of-00002.gguf": PART_2,
    "deep/down/repo-Q8_0.gguf": tiny(3003),
}


@pytest.fixture(name="hub", autouse=True)
def _hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with fake_hub() as hub:
        hub.repos[REPO] = dict(FILES)
        yield hub


def fetch(hub: FakeHub, folder: Path, quant: str | None = None) -> LocalModel:
    fetching = Hub(cache_dir=folder / "no cache", to=folder, endpoint=hub.endpoint, pause_s=0.0)
    return asyncio.run(fetching.fetch(REPO, quant, with_mmproj=True))


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("quant", "names"),
    [
        ("Q4_K_M", ["org/repo-GGUF/repo-Q4_K_M.gguf"]),
        (
            "BF16",
            [
                "org/repo-GGUF/BF16/repo-BF16-00001-of-00002.gguf",
                "org/repo-GGUF/BF16/repo-BF16-00002-of-00002.gguf",
            ],
        ),
        ("Q8_0", ["org/repo-GGUF/repo-Q8_0.gguf"]),
    ],
)
def test_a_variant_comes_with_its_projector_as_plain_files(hub, tmp_path, quant, names):
    """A scan of the folder finds the model under the repository's name, wherever the hub had its files; nothing else is left."""
    model = fetch(hub, tmp_path, quant)
    assert set(files_in(tmp_path)) == {*names, "org/repo-GGUF/mmproj-F16.gguf"}
    assert [path.relative_to(tmp_path).as_posix() for path in model.files] == names
    (found,) = Scanner(models_dir=tmp_path, hf_cache=tmp_path / "none").scan().models
    assert (found.id, found.quant, found.mmproj) == (REPO, quant, tmp_path / "org/repo-GGUF/mmproj-F16.gguf")
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_fetch_that_broke_off_is_continued_and_is_no_model_until_it_is_whole(hub, tmp_path):
    """What came is kept out of sight, and only the rest is asked for."""
    hub.break_after = [4000, 0, 0, 0, 0]
    with pytest.raises(CortexError) as broken:
        fetch(hub, tmp_path)
    assert broken.value.code == "hub_unreachable"
    assert Scanner(models_dir=tmp_path, hf_cache=tmp_path / "none").scan() == ((), ())
    (partial,) = (tmp_path / ".incoming").glob("*.incomplete")
    assert partial.read_bytes() == Q4[:4000]
    hub.break_after, hub.seen = [], []
    assert fetch(hub, tmp_path).path.read_bytes() == Q4
    assert hub.files_asked()[0].range == "bytes=4000-"
    assert not (tmp_path / ".incoming").exists()


def test_what_is_there_is_not_fetched_again(hub, tmp_path):
    """A second fetch compares what there is with what the hub names, and asks for no file."""
    fetch(hub, tmp_path)
    hub.seen = []
    assert fetch(hub, tmp_path).quant == "Q4_K_M"
    assert hub.files_asked() == []


@pytest.mark.parametrize("other", [b"short", bytes(len(Q4))], ids=["another size", "another content"])
def test_another_file_of_that_name_is_replaced(hub, tmp_path, other):
    """A file that is not what the hub has now is fetched anew."""
    place = tmp_path / "org/repo-GGUF/repo-Q4_K_M.gguf"
    place.parent.mkdir(parents=True)
    place.write_bytes(other)
    assert fetch(hub, tmp_path).path == place
    assert place.read_bytes() == Q4


def test_what_came_broken_is_told_by_name_and_not_kept(hub, tmp_path):
    """A file whose sha256 is not the promised one gets no place."""
    hub.repos[REPO] = {"repo-Q4_K_M.gguf": Q4}
    hub.false_sha = True
    with pytest.raises(CortexError) as broken:
        fetch(hub, tmp_path)
    assert broken.value.code == "download_corrupt"
    assert "'repo-Q4_K_M.gguf' came broken: its sha256" in broken.value.message
    assert not [name for name in files_in(tmp_path) if name.endswith((".gguf", ".incomplete"))]


def test_without_a_hub_the_folder_answers(hub, tmp_path):
    """What was fetched before is found there when the hub is gone."""
    fetch(hub, tmp_path)
    gone = Hub(cache_dir=tmp_path / "no cache", to=tmp_path, offline="HF_HUB_OFFLINE is set")
    assert asyncio.run(gone.fetch(REPO)).path.read_bytes() == Q4
    digest = hashlib.sha256(PROJECTOR).hexdigest()
    assert hashlib.sha256((tmp_path / "org/repo-GGUF/mmproj-F16.gguf").read_bytes()).hexdigest() == digest

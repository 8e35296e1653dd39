"""models.source.hub: fetching over real HTTP from a hub that breaks off, lies, hangs or is not there."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers.fake_hub import COMMIT, FakeHub, fake_hub
from helpers.gguf_bytes import tiny

from cortex.errors import CortexError
from cortex.neuron.models.source import Hub, LocalModel, Scanner, room
from cortex.neuron.models.source.listing import Listing
from cortex.tasks import running
from cortex.wire.fleet import JobStage

REPO = "org/repo-GGUF"
Q4, Q8, PART_1, PART_2 = (tiny(3000 + n, general__name=str(n)) for n in range(4))
FILES = {
    "README.md": b"# no model",
    "imatrix_unsloth.gguf": b"GGUF, but no model",
    "mmproj-BF16.gguf": tiny(10, general__architecture="clip", general__name="bf16"),
    "mmproj-F16.gguf": tiny(10, general__architecture="clip", general__name="f16"),
    "repo-Q8_0.gguf": Q8,
    "repo-Q4_K_M.gguf": Q4,
    "BF16/repo-BF16-00001-of-00002.gguf": PART_1,
    "BF16/repo-BF16-00002-of-00002.gguf": PART_2,
}


@dataclass
class Watched:
    """What a fetch told about itself."""

    stages: list[JobStage] = field(default_factory=list)
    steps: list[tuple[JobStage, int, int | None]] = field(default_factory=list)

    def on_progress(self, done: int, total: int | None) -> None:
        self.steps.append((self.stages[-1], done, total))


@pytest.fixture(name="hub", autouse=True)
def _hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with fake_hub() as hub:
        hub.repos[REPO] = dict(FILES)
        yield hub


def client(hub: FakeHub, cache: Path, **settings: object) -> Hub:
    return Hub(cache_dir=cache, endpoint=hub.endpoint, pause_s=0.0, **settings)  # type: ignore[arg-type]


def fetch(
    hub: Hub, quant: str | None = None, repo: str = REPO, *, with_mmproj: bool = False
) -> tuple[LocalModel, Watched]:
    seen = Watched()
    work = hub.fetch(repo, quant, with_mmproj=with_mmproj, on_stage=seen.stages.append, on_progress=seen.on_progress)
    return asyncio.run(work), seen


def refused(hub: Hub, quant: str | None = None, repo: str = REPO) -> CortexError:
    with pytest.raises(CortexError) as caught:
        fetch(hub, quant, repo)
    return caught.value


def blob(cache: Path, content: bytes, suffix: str = "") -> Path:
    return cache / "models--org--repo-GGUF" / "blobs" / (hashlib.sha256(content).hexdigest() + suffix)


# ---- what is fetched


def test_a_variant_is_fetched_verified_and_placed(hub, tmp_path):
    """The quant's file comes into the cache in the library's layout, and a scan finds it."""
    model, seen = fetch(client(hub, tmp_path), "q4_k_m")
    assert (model.id, model.repo, model.quant) == (REPO, REPO, "Q4_K_M")
    assert model.path == tmp_path / "models--org--repo-GGUF" / "snapshots" / COMMIT / "repo-Q4_K_M.gguf"
    assert model.path.read_bytes() == Q4
    assert model.path.resolve() == blob(tmp_path, Q4)
    assert (tmp_path / "models--org--repo-GGUF" / "refs" / "main").read_text() == COMMIT
    assert Scanner(models_dir=None, hf_cache=tmp_path).scan().models == (model,)
    assert list(dict.fromkeys(seen.stages)) == [JobStage.fetching, JobStage.verifying]
    assert seen.steps[0] == (JobStage.fetching, 0, len(Q4))
    assert (JobStage.fetching, len(Q4), len(Q4)) in seen.steps
    assert seen.steps[-1] == (JobStage.verifying, len(Q4), len(Q4))


def test_the_library_finds_what_was_fetched(hub, tmp_path):
    """huggingface_hub itself serves the file from this cache, offline."""
    from huggingface_hub import hf_hub_download

    model, _ = fetch(client(hub, tmp_path), "Q8_0")
    found = hf_hub_download(REPO, "repo-Q8_0.gguf", cache_dir=tmp_path, local_files_only=True)
    assert Path(found) == model.path


def test_the_double_answers_as_a_hub_does(hub):
    """The library reads from our double's listing what we read from it."""
    from huggingface_hub import HfApi

    info = HfApi(endpoint=hub.endpoint).model_info(REPO, revision="main", files_metadata=True)
    assert info.sha == COMMIT
    ours = {file.rfilename: (file.size, file.etag) for file in Listing.model_validate_json(hub.listing(REPO)).siblings}
    theirs = {file.rfilename: (file.size, file.lfs.sha256) for file in info.siblings or () if file.lfs}
    assert ours == theirs


@pytest.mark.parametrize(("quant", "name"), [(None, "repo-Q4_K_M.gguf"), ("Q8", "repo-Q8_0.gguf")])
def test_the_file_is_chosen_by_quant(hub, tmp_path, quant, name):
    """Without a quant the usual one is fetched; a part of a quant's name picks the first that contains it."""
    assert fetch(client(hub, tmp_path), quant)[0].file_name == name


def test_all_parts_of_a_split_model_are_fetched(hub, tmp_path):
    """Progress runs over the bytes of all parts."""
    model, seen = fetch(client(hub, tmp_path), "BF16")
    assert [path.read_bytes() for path in model.files] == [PART_1, PART_2]
    total = len(PART_1) + len(PART_2)
    assert {step[2] for step in seen.steps} == {total}
    done = [step[1] for step in seen.steps if step[0] is JobStage.fetching]
    assert done == sorted(done)
    assert done[-1] == total


def test_the_projector_comes_when_it_is_asked_for(hub, tmp_path):
    """With with_mmproj the repository's projector is fetched, F16 first, and attached."""
    assert fetch(client(hub, tmp_path))[0].mmproj is None
    model, _ = fetch(client(hub, tmp_path), with_mmproj=True)
    assert model.mmproj is not None
    assert model.mmproj.name == "mmproj-F16.gguf"


def test_what_is_there_is_not_fetched_again(hub, tmp_path):
    """A second fetch asks for the listing only."""
    first, _ = fetch(client(hub, tmp_path))
    asked = len(hub.files_asked())
    assert fetch(client(hub, tmp_path))[0] == first
    assert len(hub.files_asked()) == asked


def test_the_token_goes_to_the_hub_and_into_no_text(hub, tmp_path):
    """Requests carry the operator's token; the Hub's own description does not."""
    source = client(hub, tmp_path, headers={"authorization": "Bearer hf_secret"})
    fetch(source)
    assert {request.authorization for request in hub.seen} == {"Bearer hf_secret"}
    assert "secret" not in repr(source)


# ---- a hub that misbehaves


def test_a_download_that_breaks_off_is_continued(hub, tmp_path):
    """Each attempt asks for the bytes behind those that came."""
    hub.break_after = [5000, 0, 3000]
    assert fetch(client(hub, tmp_path))[0].path.read_bytes() == Q4
    assert [request.range for request in hub.files_asked()] == [None, "bytes=5000-", "bytes=5000-", "bytes=8000-"]


def test_a_later_fetch_continues_where_an_earlier_one_gave_up(hub, tmp_path):
    """What came before an error is kept: 503 says so, and the next fetch asks for the rest."""
    hub.break_after = [6000, 0, 0, 0, 0]
    error = refused(client(hub, tmp_path))
    assert (error.status, error.code, bool(error.retry_after)) == (503, "hub_unreachable", True)
    assert blob(tmp_path, Q4, ".incomplete").stat().st_size == 6000
    assert Scanner(models_dir=None, hf_cache=tmp_path).scan() == ((), ())
    assert fetch(client(hub, tmp_path))[0].path.read_bytes() == Q4
    assert hub.files_asked()[-1].range == "bytes=6000-"


def test_a_server_that_ignores_range_is_no_harm(hub, tmp_path):
    """When the whole file comes instead of its rest, it replaces what was there."""
    hub.break_after, hub.honour_range = [6000], False
    assert fetch(client(hub, tmp_path))[0].path.read_bytes() == Q4


def test_a_file_with_another_sha256_is_refused_and_removed(hub, tmp_path):
    """What is not what the hub promised is 502, in no list, and not continued."""
    hub.false_sha = True
    error = refused(client(hub, tmp_path))
    assert (error.status, error.code) == (502, "download_corrupt")
    assert "sha256" in error.message
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_hub_that_fails_for_good_is_unreachable(hub, tmp_path):
    """503 for files is tried some times, then told as 503."""
    hub.file_status = 503
    error = refused(client(hub, tmp_path))
    assert (error.status, error.code) == (503, "hub_unreachable")
    assert "the hub answered 503" in error.message
    assert len(hub.files_asked()) == 4


def test_a_mirror_that_redirects_in_circles_is_unreachable(hub, tmp_path):
    """A mistake in its configuration, told as what it is to us, and no failure of this host."""
    hub.circular = True
    error = refused(client(hub, tmp_path))
    assert (error.status, error.code) == (503, "hub_unreachable")
    assert "redirects" in error.message


def test_a_file_that_is_no_model_is_told(hub, tmp_path):
    """A GGUF by name only is 422 with the reason."""
    hub.repos[REPO] = {"repo-Q4_K_M.gguf": b"<html>moved</html>"}
    error = refused(client(hub, tmp_path))
    assert (error.status, error.code) == (422, "not_a_model")
    assert "begins with b'<htm'" in error.message


def test_names_that_climb_are_not_believed(hub, tmp_path):
    """A hub whose listing names a path outside of the snapshot makes no file there."""
    hub.repos[REPO] = {"../../../evil-Q4_K_M.gguf": Q4, "/abs-Q4_K_M.gguf": Q4, "a\\..\\b-Q4_K_M.gguf": Q4}
    assert refused(client(hub, tmp_path)).code == "empty_repo"
    assert hub.files_asked() == []


# ---- refusals


def test_a_missing_quant_lists_what_there_is(hub, tmp_path):
    """422 quant_not_found has the repository's quants and the nearest."""
    error = refused(client(hub, tmp_path), "Q4_K_S")
    assert (error.status, error.code) == (422, "quant_not_found")
    assert error.extras == {"available": ["BF16", "Q4_K_M", "Q8_0"], "nearest": "Q4_K_M"}


@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [(401, 404, "model_not_found"), (404, 404, "model_not_found"), (403, 403, "repo_gated")],
)
def test_a_repository_that_is_not_ours_to_read_is_told(hub, tmp_path, status, answer, code):
    """The hub's refusals become errors that say what would help, and none is worth a retry."""
    hub.list_status = status
    error = refused(client(hub, tmp_path))
    assert (error.status, error.code, error.retry_after) == (answer, code, None)
    assert "HF_TOKEN" in error.message


def test_files_of_before_gguf_are_fetched_where_there_is_nothing_newer(hub, tmp_path, legacy_dir):
    """By quant as others are; what is PyTorch's stays there, and beside a GGUF they are not offered."""
    old = (legacy_dir / "gpt2.bin").read_bytes()
    hub.repos[REPO] = {"llama.ggmlv3.q4_0.bin": old, "llama.ggmlv3.q8_0.bin": old, "pytorch_model.bin": b"PK"}
    model, _ = fetch(client(hub, tmp_path), "q8_0")
    assert (model.file_name, model.header.is_legacy) == ("llama.ggmlv3.q8_0.bin", True)
    assert refused(client(hub, tmp_path), "Q5_1").extras["available"] == ["Q4_0", "Q8_0"]
    hub.repos[REPO] |= {"repo-Q4_K_M.gguf": Q4}
    assert refused(client(hub, tmp_path), "Q4_0").extras["available"] == ["Q4_K_M"]
    hub.repos[REPO] = {"pytorch_model.bin": b"PK"}
    assert refused(client(hub, tmp_path / "empty")).code == "empty_repo"


def test_a_repository_without_gguf_is_told(hub, tmp_path):
    """422 empty_repo."""
    hub.repos[REPO] = {"model.safetensors": b"x"}
    assert refused(client(hub, tmp_path)).code == "empty_repo"


@pytest.mark.parametrize("repo", ["../../etc", "org", "org/repo:Q4_0", "https://x/y"])
def test_what_is_no_repository_is_never_asked_for(hub, tmp_path, repo):
    """Ids that could be paths or addresses reach neither hub nor disk."""
    assert refused(client(hub, tmp_path), repo=repo).status == 400
    assert hub.seen == []


def test_a_full_disk_is_told_before_a_byte_comes(hub, tmp_path, monkeypatch):
    """Without room for the file, 507 has the numbers and nothing is downloaded."""
    monkeypatch.setattr(room, "SPARE_BYTES", 1 << 60)
    error = refused(client(hub, tmp_path))
    assert (error.status, error.code, error.retry_after) == (507, "insufficient_storage", None)
    assert hub.files_asked() == []


def test_a_cache_that_cannot_be_written_is_told(hub, tmp_path):
    """What the operating system says about the cache is an error with its words."""
    (tmp_path / "cache").write_text("a file where a folder belongs")
    error = refused(client(hub, tmp_path / "cache"))
    assert (error.status, error.code) == (500, "cache_error")
    assert "ot a directory" in error.message or "exists" in error.message


# ---- no hub


def no_listener() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@contextlib.contextmanager
def absence(kind: str, hub: FakeHub, cache: Path) -> Iterator[Hub]:
    """A Hub whose hub is not there, in one of several ways."""
    if kind == "nobody listens":
        yield Hub(cache_dir=cache, endpoint=no_listener())
    elif kind == "offline":
        yield client(hub, cache, offline="HF_HUB_OFFLINE is set")
    elif kind == "it hangs":
        hub.hang_listing = True
        yield client(hub, cache, answer_s=0.2)
    elif kind == "a portal answers":
        hub.list_body = b"<html>please log in</html>"
        yield client(hub, cache)
    else:
        hub.list_status = 500
        yield client(hub, cache)


ABSENCES = ["nobody listens", "offline", "it hangs", "a portal answers", "it fails"]


@pytest.mark.parametrize("kind", ABSENCES)
def test_without_a_hub_the_cache_answers(hub, tmp_path, kind):
    """A variant that was fetched before is served."""
    before, _ = fetch(client(hub, tmp_path), "Q8_0")
    with absence(kind, hub, tmp_path) as source:
        assert fetch(source, "q8_0")[0] == before
        assert fetch(source, None)[0] == before


@pytest.mark.parametrize("kind", ABSENCES)
def test_without_a_hub_what_is_not_there_is_told(hub, tmp_path, kind):
    """The error says that there is no hub, and what is on disk: 422 when fetching is forbidden, else 503."""
    fetch(client(hub, tmp_path), "Q8_0")
    with absence(kind, hub, tmp_path) as source:
        error = refused(source, "Q4_K_M")
    if kind == "offline":
        assert (error.status, error.code, error.extras["available"]) == (422, "quant_not_found", ["Q8_0"])
        assert "nothing is fetched: HF_HUB_OFFLINE is set" in error.message
    else:
        assert "'org/repo-GGUF' in quant Q4_K_M is not on this host (only Q8_0)" in error.message
        assert (error.status, error.code, bool(error.retry_after)) == (503, "hub_unreachable", True)


def test_offline_an_unknown_repository_is_not_found(hub, tmp_path):
    """404 without a retry: nothing will change by itself."""
    error = refused(client(hub, tmp_path, offline="HF_HUB_OFFLINE is set"))
    assert (error.status, error.code, error.retry_after) == (404, "model_not_found", None)
    assert "HF_HUB_OFFLINE is set" in error.message


def test_the_environment_is_the_librarys(tmp_path):
    """HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME and HF_TOKEN mean what they mean to huggingface_hub; the operator's cache wins."""
    script = (
        "from pathlib import Path; from cortex.neuron.models.source import Hub; h = Hub.from_environment();"
        "print(h.endpoint, h.offline, h.cache_dir, h.headers, Hub.from_environment(Path('/op'), enabled=False))"
    )
    environment = {"HF_ENDPOINT": "http://mirror/", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_x"}
    command = [sys.executable, "-c", script]
    out = subprocess.run(command, env=os.environ | environment, capture_output=True, check=True, text=True).stdout
    assert out.startswith(f"http://mirror HF_HUB_OFFLINE is set {tmp_path}/hub {{'authorization': 'Bearer hf_x'}} Hub(")
    assert "PosixPath('/op')" in out
    assert "[hub] enabled = false" in out


# ---- leaving, and company


def test_a_cancelled_fetch_keeps_what_came(hub, tmp_path):
    """Cancelling a stalled download ends it, and the next one asks for the bytes behind those that came."""
    large = tiny(1_500_000)
    hub.repos[REPO] = {"repo-Q4_K_M.gguf": large}
    hub.break_after, hub.hang_file = [5 << 20], True

    async def scenario() -> int:
        some_came = asyncio.Event()
        work = client(hub, tmp_path).fetch(REPO, on_progress=lambda done, _: some_came.set() if done else None)
        async with running(work, name="fetch") as task:
            await some_came.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return blob(tmp_path, large, ".incomplete").stat().st_size

    kept = asyncio.run(scenario())
    assert 4 << 20 <= kept <= 5 << 20
    assert fetch(client(hub, tmp_path))[0].path.read_bytes() == large
    assert hub.files_asked()[-1].range == f"bytes={kept}-"


def test_two_fetches_of_one_file_download_it_once(hub, tmp_path):
    """The second waits for the first, shows its progress, and serves what it brought."""

    async def scenario() -> tuple[LocalModel, LocalModel]:
        source = client(hub, tmp_path)
        return await asyncio.gather(source.fetch(REPO, "Q4_K_M"), source.fetch(REPO))

    first, second = asyncio.run(scenario())
    assert first == second
    assert len(hub.files_asked()) == 1

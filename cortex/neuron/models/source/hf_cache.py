"""Every `*.gguf` and `*.bin` in the Hugging Face cache, and where that is.

Layout (huggingface_hub, "Understand caching"): `models--org--repo/` with `snapshots/REVISION/…` of links into `blobs/`,
and `refs/main`, which holds the revision that `main` was when it was last asked for. What is being downloaded has no
link yet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cortex.neuron.models.source.folder import Entry, entry
from cortex.neuron.models.source.local import may_be_model

_PREFIX = "models--"


def default_cache() -> Path:
    """The library's own cache: `HF_HUB_CACHE`, else `HF_HOME/hub`, else below `~/.cache`."""
    if cache := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return expanded(cache)
    return hf_home() / "hub"


def hf_home() -> Path:
    """The library's folder: `HF_HOME`, else below `~/.cache`."""
    home = os.environ.get("HF_HOME")
    return expanded(os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/huggingface" if home is None else home)


def expanded(path: str) -> Path:
    return Path(os.path.expandvars(os.path.expanduser(path)))  # noqa: PTH111  Path's own raises where there is no home


def repo_folder(cache: Path, repo: str) -> Path:
    """Where the cache keeps `org/repo` (which the caller has checked)."""
    return cache / (_PREFIX + repo.replace("/", "--"))


def model_files(cache: Path) -> Iterator[Entry]:
    """The files of every repository, of its newest snapshot first. No cache is no problem."""
    if not cache.is_dir():
        return
    for folder in sorted(cache.glob(f"{_PREFIX}*--*")):
        yield from repo_files(cache, folder.name.removeprefix(_PREFIX).replace("--", "/", 1))


def repo_files(cache: Path, repo: str) -> Iterator[Entry]:
    """The files of one repository, of its newest snapshot first."""
    for snapshot in _snapshots(repo_folder(cache, repo)):
        yield from _files(snapshot, repo)


def remember_main(cache: Path, repo: str, commit: str) -> None:
    """Say which snapshot is the newest."""
    ref = repo_folder(cache, repo) / "refs" / "main"
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(commit)


def _snapshots(folder: Path) -> list[Path]:
    """What `main` points to, then the others, newest first."""
    try:
        main = (folder / "refs" / "main").read_text(errors="replace").strip()
    except OSError:
        main = ""
    found = [path for path in (folder / "snapshots").glob("*") if path.is_dir()]
    return sorted(found, key=lambda path: (path.name != main, -path.stat().st_mtime, path.name))


def _files(snapshot: Path, repo: str) -> Iterator[Entry]:
    for path in sorted(snapshot.rglob("*")):
        if may_be_model(path.name) and path.is_file():  # a link whose blob was deleted is no file
            yield entry(path, f"{repo}/{path.relative_to(snapshot).as_posix()}", repo)

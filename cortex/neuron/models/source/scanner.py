"""What is on disk, again and again: a rescan of what did not change reads no header."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from cortex.neuron.gguf import GGUFError, Header
from cortex.neuron.modelfile import read_model_header
from cortex.neuron.models.source import folder, hf_cache
from cortex.neuron.models.source.folder import Entry
from cortex.neuron.models.source.group import Found, Scan, group
from cortex.neuron.models.source.local import Origin


class Scanner:
    """Scans `models_dir`, then the Hugging Face cache (`hf_cache`, else the library's own). Blocks; one scan at a time."""

    def __init__(self, *, models_dir: Path | None, hf_cache: Path | None = None) -> None:
        self._models_dir = models_dir
        self._hf_cache = hf_cache
        self._headers = _Headers()

    def scan(self) -> Scan:
        """Models, and problems as sentences. Never raises for what is in a folder or a file."""
        found = _scan(self._entries(), self._headers)
        self._headers.forget_unseen()
        return found

    def _entries(self) -> Iterator[tuple[Origin, Iterable[Entry]]]:
        if self._models_dir is not None:
            yield "models_dir", folder.model_files(self._models_dir)
        yield "hf_cache", hf_cache.model_files(self._hf_cache or hf_cache.default_cache())


def scan_repo(cache: Path, repo: str) -> Scan:
    """One repository of the cache, without memory."""
    return _scan([("hf_cache", hf_cache.repo_files(cache, repo))], _Headers())


def scan_folder(models_dir: Path) -> Scan:
    """A folder alone, without memory."""
    return _scan([("models_dir", folder.model_files(models_dir))], _Headers())


def _scan(sources: Iterable[tuple[Origin, Iterable[Entry]]], headers: _Headers) -> Scan:
    problems: list[str] = []
    found = group(list(_readable(sources, headers, problems)))
    return Scan(found.models, (*problems, *found.problems))


def _readable(
    sources: Iterable[tuple[Origin, Iterable[Entry]]], headers: _Headers, problems: list[str]
) -> Iterator[Found]:
    for origin, entries in sources:
        try:
            for entry in entries:
                header = None if entry.problem else headers.read(entry.path)
                if isinstance(header, Header):
                    yield Found(entry.path, entry.label, entry.repo, origin, header)
                elif header or entry.problem:
                    problems.append(entry.problem or f"{entry.label}: {header}")
        except OSError as error:
            problems.append(f"{origin}: {error}")


class _Headers:
    """What was read of files that have not changed since: same path, time of change and size."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, int, int], Header | GGUFError | None] = {}
        self._seen: set[tuple[Path, int, int]] = set()

    def read(self, path: Path) -> Header | GGUFError | None:
        """None for a file of another kind, which only has a model's suffix."""
        try:
            status = path.stat()
        except OSError as error:
            return GGUFError(f"it cannot be read: {error.strerror}")
        key = (path, status.st_mtime_ns, status.st_size)
        self._seen.add(key)
        if key not in self._known:
            self._known[key] = _header_or_error(path)
        return self._known[key]

    def forget_unseen(self) -> None:
        """Called after each scan, so that files that are gone take no memory."""
        self._known = {key: self._known[key] for key in self._seen}
        self._seen = set()


def _header_or_error(path: Path) -> Header | GGUFError | None:
    try:
        return read_model_header(path)
    except GGUFError as error:
        return error

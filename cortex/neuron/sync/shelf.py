"""The files of this neuron's models by their sha256, which is computed once for as long as a file does not change.

A large model takes minutes to read: it is hashed in a thread, one at a time, and whoever asks hears how far it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.models.source import LocalModel
from cortex.neuron.models.source.arrival import unusable
from cortex.neuron.models.source.download import in_thread, sha256_of
from cortex.neuron.models.source.layout import names
from cortex.tasks import Tasks
from cortex.wire.sync import Hashing, ModelFile, Offer, content_digest


class _Key(NamedTuple):
    """A file as it was: a change of any of these makes it another one."""

    path: Path
    size: int
    changed_ns: int
    inode: int


@dataclass(slots=True)
class _Reading:
    """A model that is being hashed."""

    total: int
    done: int = 0
    task: asyncio.Task[Offer | CortexError] | None = None


class Piece(NamedTuple):
    data: bytes
    size: int
    digest: str


class Shelf:
    """Of one neuron; used from its event loop only."""

    def __init__(self, models_dir: Path | None) -> None:
        self._models_dir = models_dir
        self._digests: dict[_Key, str] = {}
        self._files: dict[str, _Key] = {}
        self._reading: dict[str, _Reading] = {}
        self._disk = asyncio.Lock()
        self._tasks = Tasks("shelf")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Shelf]:
        try:
            yield self
        finally:
            await self._tasks.aclose()

    async def offer(self, model: LocalModel, wait_s: float) -> Offer | Hashing:
        """A model's files, or after `wait_s` seconds how far they are read. Raises CortexError when they cannot be."""
        reading = self._reading.get(model.id)
        if reading is None:
            reading = self._reading[model.id] = _Reading(model.size_bytes)
            reading.task = self._tasks.start(f"hash {model.id}", self._read(model, reading))
        assert reading.task  # noqa: S101  just made
        await asyncio.wait([reading.task], timeout=wait_s)
        if not reading.task.done():
            return Hashing(bytes_done=reading.done, bytes_total=reading.total)
        self._reading.pop(model.id, None)
        offer = reading.task.result()
        if isinstance(offer, CortexError):
            raise offer
        return offer

    async def piece(self, sha256: str, first: int, last: int) -> Piece:
        """Bytes `first` to `last` of a file that was offered. Raises CortexError: 404 it was not, 409 it has changed, 416 it ends before."""
        key = self._files.get(sha256)
        if key is None:
            raise errors.invalid_request(f"no file {sha256} was offered here", code="not_offered", status=404)
        if first >= key.size:
            raise errors.invalid_request(f"the file has {key.size} bytes", code="range_not_satisfiable", status=416)
        try:
            return await in_thread(_read_piece, key, first, last)
        except OSError as error:
            raise unusable(key.path, error) from error
        except _ChangedError:
            del self._files[sha256]
            raise errors.invalid_request(f"'{key.path.name}' has changed", code="file_changed", status=409) from None

    async def _read(self, model: LocalModel, reading: _Reading) -> Offer | CortexError:
        try:
            async with self._disk:
                return Offer(model_id=model.id, files=await self._files_of(names(model, self._models_dir), reading))
        except OSError as error:
            return unusable(model.path, error)

    async def _files_of(self, named: Mapping[str, Path], reading: _Reading) -> tuple[ModelFile, ...]:
        keys = {name: _key(path) for name, path in named.items()}
        reading.total, files = sum(key.size for key in keys.values()), []
        for name, key in keys.items():
            before = reading.done
            sha256 = self._digests.get(key) or await sha256_of(
                key.path,
                lambda done, before=before: setattr(reading, "done", before + done),  # type: ignore[misc]
            )
            reading.done = before + key.size
            self._digests[key], self._files[sha256] = sha256, key
            files.append(ModelFile(name=name, size=key.size, sha256=sha256))
        return tuple(files)


class _ChangedError(Exception):
    """The file is not the one that was hashed."""


def _key(path: Path, descriptor: int | None = None) -> _Key:
    status = path.stat() if descriptor is None else os.fstat(descriptor)
    return _Key(path, status.st_size, status.st_mtime_ns, status.st_ino)


def _read_piece(key: _Key, first: int, last: int) -> Piece:
    with key.path.open("rb") as file:
        if _key(key.path, file.fileno()) != key:
            raise _ChangedError
        file.seek(first)
        data = file.read(min(last + 1, key.size) - first)
    return Piece(data, key.size, content_digest(data))

"""A model's files on their way into a models_dir, from wherever: checked before the first byte, verified after the last.

Content gathers in `.incoming`; places are taken all at once, the part that an engine opens last, so that a scan never
sees half a model.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.models.source import layout
from cortex.neuron.models.source.download import DownloadError, Progress, Wanted, in_thread, sha256_of, verify
from cortex.neuron.models.source.incoming import Incoming
from cortex.neuron.models.source.locks import taken
from cortex.neuron.models.source.room import check_room
from cortex.neuron.models.source.transfer import put
from cortex.wire.sync import ModelFile


class Arrival:
    """`files` belong into `models_dir`, the one that is opened first. Raises CortexError (400) for names that do not."""

    def __init__(self, models_dir: Path, files: Sequence[ModelFile]) -> None:
        self.files = tuple(files)
        self._models_dir = models_dir
        self._incoming = Incoming(models_dir)
        try:
            self._places = {file.sha256: models_dir / layout.checked(file.name) for file in files}
        except ValueError as error:
            raise errors.invalid_request(str(error), code="bad_file_name", param="files") from None
        if len(self._places) < len(self.files) or len({file.name.lower() for file in files}) < len(self.files):
            raise errors.invalid_request("files: one of them is there twice", code="bad_file_name", param="files")

    def wanted(self, file: ModelFile) -> Wanted:
        return self._incoming.wanted(file.sha256, file.size, file.sha256)

    def place(self, file: ModelFile) -> Path:
        return self._places[file.sha256]

    # ---- what blocks

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else on this host brings these files meanwhile. Raises CortexError when somebody does, when something
        else is in their place (409), when there is no room (507), when the folder cannot be used (500).
        """
        with contextlib.ExitStack() as locks:
            try:
                for file in sorted(self.files, key=lambda file: file.sha256):
                    self._lock(file, locks)
                self._check()
            except OSError as error:
                raise unusable(self._models_dir, error) from error
            yield
            locks.close()
            self._incoming.tidy()

    def have(self, file: ModelFile) -> int:
        """How many of its bytes are there: in its place, or on their way."""
        if self.place(file).exists():
            return file.size
        partial = self.wanted(file).partial
        if not partial.exists():
            return 0
        if partial.stat().st_size > file.size:
            partial.unlink()
            return 0
        return partial.stat().st_size

    def _lock(self, file: ModelFile, locks: contextlib.ExitStack) -> None:
        lock = taken(self.wanted(file).lock)
        if lock is None:
            raise errors.unavailable(
                f"'{file.name}' is being brought by somebody else on this host", code="being_brought", retry_after=10
            )
        locks.enter_context(lock)

    def _check(self) -> None:
        root = self._models_dir.resolve()
        for file in self.files:
            place = self.place(file)
            if not place.parent.resolve().is_relative_to(root):
                raise _conflict(f"the folder of '{file.name}' is a link that leads out of models_dir")
            if place.exists() and (not place.is_file() or place.stat().st_size != file.size):
                raise _conflict(f"there is another '{file.name}' in models_dir already: move it away first")
        check_room(self._incoming.folder, sum(file.size - self.have(file) for file in self.files), self.files[0].name)

    # ---- the end

    async def settle(self, on_bytes: Progress) -> None:
        """Verify everything, then put it in its place. Raises CortexError; what is wrong is removed, so that it is not continued."""
        before = 0
        for file in self.files:
            await self._verify(file, lambda done, before=before: on_bytes(before + done))  # type: ignore[misc]
            before += file.size
        on_bytes(before)
        for file in reversed(self.files):
            await in_thread(self._put, file)

    def _put(self, file: ModelFile) -> None:
        if not self.place(file).exists():
            put(self.wanted(file).partial, self.place(file))

    async def _verify(self, file: ModelFile, on_bytes: Progress) -> None:
        if await in_thread(self.place(file).exists):
            if await sha256_of(self.place(file), on_bytes) != file.sha256:
                raise _conflict(f"there is another '{file.name}' in models_dir already: move it away first")
            return
        try:
            await verify(self.wanted(file), on_bytes)
        except DownloadError as error:
            raise corrupt(file.name, str(error)) from error


def corrupt(name: str, what: str) -> CortexError:
    return errors.upstream_failed(f"'{name}' came broken: {what}", code="file_corrupt")


def unusable(folder: Path, error: OSError) -> CortexError:
    """507 for a disk that is full, else 500: the operating system's words about a folder."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CortexError(f"the disk of {folder} is full", status=507, code="insufficient_storage")
    return CortexError(f"{folder} cannot be used: {error.strerror or error}", status=500, code="storage_failed")


def _conflict(message: str) -> CortexError:
    return errors.invalid_request(message, code="file_conflict", status=409)

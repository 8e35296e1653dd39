"""A bundle onto the disk: into a partial file first, which the next try continues, then renamed.

What a broken try left is compared with what belongs there, byte by byte or by sha256; from the first difference on it is
written anew. So a partial file of another model, or with a tail that a power cut left empty, does no harm.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cortex import errors
from cortex.neuron.bundle import archive, manifest
from cortex.neuron.bundle.errors import BundleError
from cortex.neuron.bundle.gather import CHUNK, Contents, Progress
from cortex.neuron.bundle.manifest import Member
from cortex.neuron.models.source.room import check_room
from cortex.neuron.models.source.transfer import put


def partial_of(file: Path) -> Path:
    return file.with_name(file.name + ".partial")


def write(file: Path, contents: Contents, on_progress: Progress) -> int:
    """Returns how many bytes a broken try had left that are used.

    Raises BundleError when a file changes meanwhile, CortexError when there is no room (507) or somebody else writes it (503), OSError.
    """
    partial = partial_of(file)
    with partial.open("a+b") as out:
        _lock(out, file)
        with partial.open("r+b") as both:
            writer = _Writer(both, contents, on_progress)
            check_room(partial.parent, contents.size - writer.left, file.name)
            writer.run()
            both.truncate()
        put(partial, file)
    return writer.kept


def _lock(out: BinaryIO, file: Path) -> None:
    try:
        fcntl.flock(out.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise errors.unavailable(
            f"'{file}' is being written by somebody else", code="being_brought", retry_after=10
        ) from None


class _Writer:
    """`left`: bytes of an earlier try that may still be of use; `kept`: those that were."""

    def __init__(self, out: BinaryIO, contents: Contents, on_progress: Progress) -> None:
        self._out = out
        self._contents = contents
        self._on_progress = on_progress
        self._total = contents.size
        self.left = min(out.seek(0, os.SEEK_END), self._total)
        self.kept = 0
        out.seek(0)

    def run(self) -> None:
        first = self._contents.manifest.to_bytes()
        self._bytes(archive.header(manifest.NAME, len(first)) + first + archive.padding(len(first)))
        for member in self._contents.manifest.members:
            self._bytes(archive.header(member.name, member.size))
            self._content(member)
            self._bytes(archive.padding(member.size))
        self._bytes(archive.END)

    def _bytes(self, data: bytes) -> None:
        at = self._out.tell()
        if at < self.left and self._out.read(len(data)) == data:
            self.kept = at + len(data)
            return
        self._write_from(at)
        self._out.write(data)

    def _content(self, member: Member) -> None:
        """What is there of it, then the rest; all of it anew when that does not make the member."""
        at = self._out.tell()
        if not self._copied(member, keep=True):
            self._write_from(at)
            if not self._copied(member, keep=False):
                raise BundleError(member.name, "the file has changed while it was read")
        self._on_progress(self._out.tell(), self._total)

    def _copied(self, member: Member, *, keep: bool) -> bool:
        digest, start = hashlib.sha256(), self._out.tell()
        while keep and self._out.tell() < min(self.left, start + member.size):
            digest.update(
                self._out.read(min(CHUNK, self.left - self._out.tell(), start + member.size - self._out.tell()))
            )
        there = self._out.tell() - start
        if there < member.size:
            self._write_from(self._out.tell())
        for piece in self._rest(member, there):
            digest.update(piece)
            self._out.write(piece)
            self._on_progress(self._out.tell(), self._total)
        whole = digest.hexdigest() == member.sha256
        self.kept = start + there if whole and there else self.kept
        return whole

    def _rest(self, member: Member, there: int) -> Iterator[bytes]:
        with _opened(self._contents.sources[member.name]) as source:
            source.seek(there)
            missing = member.size - there
            while missing and (piece := source.read(min(CHUNK, missing))):
                missing -= len(piece)
                yield piece

    def _write_from(self, at: int) -> None:
        """From here on nothing that is there is of use."""
        self._out.seek(at)
        self._out.truncate()
        self.left = min(self.left, at)


@contextmanager
def _opened(source: Path | bytes) -> Iterator[BinaryIO]:
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        yield file

"""A bundle, read once from its beginning to its end, held against its manifest. Never more than a piece of it is in memory.

Nothing that the archive says of itself is acted upon: it has to be what the manifest says, byte by byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

from cortex.neuron.bundle import archive, manifest
from cortex.neuron.bundle.errors import BundleError
from cortex.neuron.bundle.gather import CHUNK
from cortex.neuron.bundle.manifest import Manifest, Member


class Reader:
    """`manifest` is there at once. Raises BundleError, here and later."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.done = 0
        self.manifest = self._manifest()

    def members(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Every member with its pieces, which have to be read to their end: only then is it sure that they are right. After the
        last one the end of the archive is checked as well.
        """
        for member in self.manifest.members:
            self._header(member)
            yield member, self._content(member)
            self._padding(member.name, member.size)
        self._end()

    def _manifest(self) -> Manifest:
        block = self._file.read(archive.BLOCK)
        size = archive.size_said(block, manifest.NAME) if len(block) == archive.BLOCK else None
        if size is None:
            raise BundleError(manifest.NAME, "this is no bundle: it does not begin with it")
        if size > manifest.LIMIT_BYTES or archive.header(manifest.NAME, size) != block:
            raise BundleError(manifest.NAME, "its header was altered")
        self.done = archive.BLOCK
        told = manifest.parse(self._exactly(manifest.NAME, size))
        self._padding(manifest.NAME, size)
        return told

    def _header(self, member: Member) -> None:
        expected = archive.header(member.name, member.size)
        found = self._exactly(member.name, len(expected), what="its header")
        if found != expected:
            raise BundleError(member.name, archive.difference(found, member.name, member.size))

    def _content(self, member: Member) -> Iterator[bytes]:
        digest, missing = hashlib.sha256(), member.size
        while missing:
            piece = self._file.read(min(CHUNK, missing))
            if not piece:
                raise BundleError(
                    member.name,
                    f"the bundle ends after {member.size - missing} of its {member.size} bytes: it was interrupted",
                )
            missing -= len(piece)
            self.done += len(piece)
            digest.update(piece)
            yield piece
        if digest.hexdigest() != member.sha256:
            raise BundleError(member.name, "it was altered: its sha256 is not the one in the manifest")

    def _padding(self, name: str, size: int) -> None:
        if any(self._exactly(name, len(archive.padding(size)), what="what fills its last block")):
            raise BundleError(name, "behind its end, in its last block, there is something")

    def _end(self) -> None:
        last = self.manifest.members[-1].name
        found = self._file.read(len(archive.END) + 1)
        if len(found) < len(archive.END) and not any(found):
            raise BundleError(last, "the end of the archive behind it is missing: the bundle was interrupted")
        if found != archive.END:
            raise BundleError(last, f"something follows it that the manifest does not name{_next(found)}")

    def _exactly(self, name: str, size: int, what: str = "it") -> bytes:
        data = b""
        while len(data) < size and (piece := self._file.read(size - len(data))):
            data += piece
        self.done += len(data)
        if len(data) < size:
            raise BundleError(name, f"the bundle ends within {what}: it was interrupted")
        return data


def _next(found: bytes) -> str:
    if any(found[: archive.BLOCK]) and len(found) >= archive.BLOCK:
        return f": {archive.difference(found, '', 0).removesuffix(' is in its place')}"
    return ""

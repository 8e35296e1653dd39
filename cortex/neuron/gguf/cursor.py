"""Reading forward through an untrusted file: every length is checked against the file before anything is done with it.

Chunked reads, not mmap: a file that shrinks while it is mapped kills the process with SIGBUS.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

CHUNK = 1 << 18  # bytes read at once; a header without a vocabulary is smaller
MAX_TEXT = 1 << 20  # bytes of a text that is kept; chat templates have 1 to 60 KiB

_U64 = struct.Struct("<Q")
_unpack_u64 = _U64.unpack_from


class GGUFError(Exception):
    """The file is no GGUF that can be served. `offset` is the byte at which that shows, None when it is no matter of bytes.

    The message may have a file's own words in it, and is one line whatever they are.
    """

    def __init__(self, message: str, offset: int | None = None) -> None:
        line = "".join(letter if letter.isprintable() else "\ufffd" for letter in message)
        super().__init__(line if offset is None else f"at byte {offset}: {line}")
        self.offset = offset


@contextlib.contextmanager
def opened(path: Path, error: type[GGUFError] = GGUFError) -> Iterator[tuple[FileIO, int]]:
    """The regular file at `path` and its size in bytes. What the operating system says against it is an `error`."""
    try:
        with io.FileIO(str(path), opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise error("it is no regular file")
            yield file, status.st_size
    except OSError as refused:
        raise error(f"it cannot be read: {refused.strerror or refused}") from refused


def _without_waiting(path: str, flags: int) -> int:
    """Opening a FIFO that somebody named x.gguf would otherwise wait for its writer for ever."""
    return os.open(path, flags | os.O_NONBLOCK)


class Cursor:
    """A position in `file` (regular, unbuffered, `size` bytes) that only moves forward. Its failures are of the kind `error`."""

    def __init__(self, file: FileIO, size: int, error: type[GGUFError] = GGUFError) -> None:
        self._file = file
        self._size = size
        self._error = error
        self._buffer = b""
        self._start = 0  # the file offset of the buffer's first byte
        self._at = 0  # position in the buffer; may lie behind its end after a skip

    @property
    def offset(self) -> int:
        """Position in the file, in bytes."""
        return self._start + self._at

    @property
    def left(self) -> int:
        """Bytes between here and the end of the file."""
        return self._size - self.offset

    def fail(self, message: str) -> GGUFError:
        return self._error(message, min(self.offset, self._size))

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes. Callers bound `count`; this only knows the file's end."""
        self._expect(count, what)
        if self._at + count > len(self._buffer):
            self._refill(max(count, CHUNK))
            if len(self._buffer) < count:
                raise self.fail(f"the file became shorter while it was read ({what})")
        taken = self._buffer[self._at : self._at + count]
        self._at += count
        return taken

    def skip(self, count: int, what: str) -> None:
        self._expect(count, what)
        self._at += count

    def number(self, form: struct.Struct, what: str) -> int | float | bool:
        value: int | float | bool = form.unpack(self.take(form.size, what))[0]
        return value

    def u64(self, what: str) -> int:
        return int(self.number(_U64, what))

    def text(self, limit: int, what: str) -> str:
        """A string of at most `limit` bytes. Real files hold texts that are not UTF-8: such bytes become U+FFFD."""
        start = self.offset
        length = self.u64(f"the length of {what}")
        if length > limit:
            raise self._error(f"{what} claims {length} bytes, and at most {limit} are accepted", start)
        return self.take(length, what).decode(errors="replace")

    def skip_text(self, what: str) -> None:
        self.skip(self.u64(f"the length of {what}"), what)

    def skip_texts(self, count: int, what: str) -> None:
        """Walk over `count` strings: the hot loop of a header, some 90 ns for each token of a vocabulary."""
        left = count
        while left:
            left = self._skip_buffered(left)
            if left:  # the next length is not wholly in the buffer
                self._expect(8, what)
                self._refill(CHUNK)
                if len(self._buffer) < 8:
                    raise self.fail(f"the file became shorter while it was read ({what})")
        self._expect(0, what)  # the last string's own end

    def _skip_buffered(self, left: int) -> int:
        """Walk to the end of the buffer; how many strings are left then."""
        buffer, at, done = self._buffer, self._at, 0
        try:
            for done in range(left):  # noqa: B007  how far it came, on the way out through the error
                at += _unpack_u64(buffer, at)[0] + 8
            done = left
        except (struct.error, OverflowError):  # the end of the buffer, or a length beyond all files
            pass
        self._at = at
        return left - done

    def _expect(self, count: int, what: str) -> None:
        if self.left < count:
            raise self.fail(f"the file ends inside {what}: {count} bytes wanted, {max(0, self.left)} left")

    def _refill(self, count: int) -> None:
        self._start, self._at = self.offset, 0
        self._file.seek(self._start)
        self._buffer = self._file.read(count)

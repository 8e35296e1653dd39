"""The last lines of an engine's log, bounded in number and length: a native library may write anything."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

MAX_LINES = 50
MAX_LINE_BYTES = 500


class LogTail:
    """Takes bytes as they come, keeps the last lines, and passes each whole line to `on_line`."""

    def __init__(self, on_line: Callable[[str], None] | None = None) -> None:
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._on_line = on_line
        self._open = b""

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def feed(self, data: bytes) -> None:
        *whole, last = data.split(b"\n")
        for piece in whole:
            self._end_line(self._open + piece)
            self._open = b""
        self._open = (self._open + last)[: MAX_LINE_BYTES + 1]  # one more, so that the cut is still seen

    def end(self) -> None:
        """The log ended; what stands there without a newline is a line as well."""
        self._end_line(self._open)
        self._open = b""

    def _end_line(self, line: bytes) -> None:
        text = line[:MAX_LINE_BYTES].decode(errors="replace").rstrip()
        if not text:
            return
        if len(line) > MAX_LINE_BYTES:
            text += " …"
        self._lines.append(text)
        if self._on_line:
            self._on_line(text)

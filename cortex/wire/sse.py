"""Server-sent events as bytes: where whole events end, what data they carry, and how to write one.

The format is the HTML standard's "event stream": lines end in LF or CRLF, an event ends at an empty line, a line that
begins with a colon is a comment. Bytes stay bytes: nothing is decoded that is only passed on.
"""

from __future__ import annotations

from collections.abc import Iterator


def comment(text: str = "") -> bytes:
    """A comment: keeps connections and idle timers alive, and is no event."""
    return f": {text}\n\n".encode()


def event(data: bytes, name: str | None = None) -> bytes:
    """One event. `data` is one line (JSON without raw newlines)."""
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + data + b"\n\n"


def whole_events(buffer: bytes) -> int:
    """How many leading bytes of `buffer` are whole events; the rest is the beginning of one that has not ended."""
    return max(
        buffer.rfind(b"\n\n") + 2 if b"\n\n" in buffer else 0,
        buffer.rfind(b"\r\n\r\n") + 4 if b"\r\n\r\n" in buffer else 0,
    )


def data_of(events: bytes) -> Iterator[bytes]:
    """The data of each event in `events` (whole events, as `whole_events` cut them). Comments bring nothing."""
    for block in events.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
        if lines:
            yield b"\n".join(lines)

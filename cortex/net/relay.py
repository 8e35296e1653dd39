"""An exchange's answer to a client: status and headers, then every piece verbatim, at the client's pace."""

from __future__ import annotations

from typing import Protocol

from cortex.net.headers import Headers, forwardable_response_headers
from cortex.net.pool import Exchange
from cortex.wire.sse import whole_events

TAIL_LIMIT_BYTES = 1024 * 1024  # an "event" longer than this is passed on in pieces

# Nothing on the way to the client may collect or keep a stream.
_STREAM_HEADERS = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))


class Sink(Protocol):
    """Where an answer goes."""

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head; once."""

    async def send(self, data: bytes) -> None:
        """Send a piece of the body; waits while the client is slow."""

    async def finish(self) -> None:
        """The answer is whole."""


class Observer(Protocol):
    """Sees what passes and never changes it."""

    def piece(self, data: bytes) -> None:
        """What was just read for the client: whole events of an event stream, any piece of another body."""


class EventTail:
    """Holds back the beginning of an event until its end has come.

    What a client has was whole events, so an error event can follow when the upstream dies.
    """

    __slots__ = ("_held", "_seam")

    def __init__(self) -> None:
        self._held = bytearray()
        self._seam = b""  # the last bytes held: an event's end may lie across two pieces

    def push(self, data: bytes) -> bytes:
        """Take a piece; return the whole events there are now, b"" when none ended."""
        joined = self._seam + data
        end = whole_events(joined) - len(self._seam)
        if end <= 0:
            self._held += data
            self._seam = joined[-3:]
            return self.rest() if len(self._held) > TAIL_LIMIT_BYTES else b""
        begun = data[end:]
        events = bytes(self._held) + data[:end] if self._held or begun else data
        self._held[:] = begun
        self._seam = begun[-3:]
        return events

    def rest(self) -> bytes:
        """What is held, at the regular end of the stream."""
        held = bytes(self._held)
        self._held.clear()
        return held


def stream_headers(headers: Headers) -> list[tuple[str, str]]:
    """The headers of an event stream: without a length, because comments or an error event may be added to it."""
    present = {name for name, _ in headers}
    kept = [field for field in headers if field[0] != "content-length"]
    return kept + [field for field in _STREAM_HEADERS if field[0] not in present]


async def relay(
    exchange: Exchange, sink: Sink, *, started: bool, observer: Observer | None, idle_timeout_s: float
) -> None:
    """Pass an answer on. `started`: the sink has its head already.

    Raises NetError when the upstream fails on the way. Then the client of an event stream has whole events only, and the
    caller may send one more; any other body is cut short, and the caller must make that visible (no `finish`).
    """
    events = exchange.is_event_stream()
    if not started:
        headers = forwardable_response_headers(exchange.headers)
        await sink.start(exchange.status, stream_headers(headers) if events else headers)
    tail = EventTail() if events else None
    while piece := await exchange.read(idle_timeout_s):
        if ready := piece if tail is None else tail.push(piece):
            if observer is not None:
                observer.piece(ready)
            await sink.send(ready)
    if tail is not None and (rest := tail.rest()):
        if observer is not None:
            observer.piece(rest)
        await sink.send(rest)
    await sink.finish()

"""Answers on their way into another dialect: sinks for a call of our own making, between the dispatcher and the client.

`Collector` takes a whole answer, `TranslatingSink` a stream. What the dispatcher and the neuron send to keep a stream
alive, and the error with which they end it, arrive here like any other event and leave in the client's dialect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import orjson

from cortex import errors
from cortex.errors import CortexError
from cortex.gateway.proxy.dispatch import ClientSink
from cortex.net.headers import Headers
from cortex.net.keepalive import STREAM_HEAD
from cortex.wire import sse
from cortex.wire.chat.deltas import Broke, read

WHOLE_LIMIT_BYTES = 64 * 1024 * 1024
COMMENT_S = 0.5  # silence after which a comment is due, for whatever counts bytes; upstream comments come every second
EVENT_S = (
    10.0  # silence after which an event is due: for clients that count those alone (banner at 20 s, cut-offs from 15 s)
)
_OURS = "x-cortex-"


class Collector:
    """A whole answer, kept until it is there. Its `status` stays None: nothing has been sent, and any error still has its own."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self._pieces: list[bytes] = []
        self._size = 0
        self._broken: Exception | None = None

    async def start(self, _status: int, headers: Headers) -> None:
        self.headers = dict(_kept(headers))

    async def send(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > WHOLE_LIMIT_BYTES:
            raise errors.upstream_failed(f"the model's answer is larger than {WHOLE_LIMIT_BYTES} bytes")

    async def finish(self) -> None:
        return

    def abort(self, error: Exception) -> None:
        self._broken = error

    def answer(self) -> dict[str, Any]:
        """The chat completion. Raises CortexError 502 when it is not whole, or none."""
        if self._broken:
            raise errors.upstream_failed("the neuron broke off in the middle of its answer") from self._broken
        try:
            said = orjson.loads(b"".join(self._pieces))
        except orjson.JSONDecodeError as error:
            raise errors.upstream_failed("the model's answer is no JSON", code="upstream_malformed_response") from error
        return said if isinstance(said, dict) else {}


class StreamDialect(Protocol):
    """One streamed answer in a client's dialect. What is returned is sent.

    head         headers of the stream
    comment      what is no event, and shows that somebody is there; empty where the form has none
    over, error  the last event was sent; `error` if that told one
    """

    @property
    def head(self) -> Headers: ...

    @property
    def comment(self) -> bytes: ...

    @property
    def over(self) -> bool: ...

    @property
    def error(self) -> CortexError | None: ...

    def opened(self) -> bytes:
        """The client's stream is open, and the model may be far from an answer."""

    async def begin(self, events: bytes) -> None:
        """These are the first events of the answer; `push` gets them next."""

    def push(self, events: bytes) -> bytes:
        """Whole events of the answer."""

    def silence(self) -> bytes:
        """Nothing was told for long: an event that clients count as life."""

    def end(self) -> bytes:
        """The answer is over."""


class ServerSentEvents:
    """What dialects made of server-sent events have in common."""

    head: Headers = STREAM_HEAD
    comment: bytes = sse.comment()


class TranslatingSink:
    """A client's stream, in its dialect. `headers` go with its head."""

    def __init__(
        self,
        client: ClientSink,
        dialect: StreamDialect,
        *,
        headers: Headers = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._dialect = dialect
        self._headers = headers
        self._clock = clock
        self._begun = False
        self._byte_at = self._event_at = clock()

    @property
    def status(self) -> int | None:
        return self._client.status

    async def start(self, _status: int, headers: Headers) -> None:
        await self._client.start(200, [*self._dialect.head, *self._headers, *_kept(headers)])
        await self._tell(self._dialect.opened())

    async def send(self, data: bytes) -> None:
        """Whole events. Raises the error that ended the answer when the model goes on all the same, so that it is stopped."""
        if self._dialect.over:
            if self._dialect.error and _goes_on(data):
                raise self._dialect.error
            return
        if any(sse.data_of(data)):
            if not self._begun:
                self._begun = True
                await self._dialect.begin(data)
            await self._tell(self._dialect.push(data))
        await self._keep_alive()

    async def finish(self) -> None:
        await self._tell(self._dialect.end())
        await self._client.finish()

    def abort(self, error: Exception) -> None:
        self._client.abort(error)

    async def _tell(self, events: bytes) -> None:
        if events:
            self._byte_at = self._event_at = self._clock()
            await self._client.send(events)

    async def _keep_alive(self) -> None:
        """The upstream says something every second while it has nothing to say: that is the clock here."""
        if self._dialect.over:
            return
        now = self._clock()
        if now - self._event_at >= EVENT_S:
            await self._tell(self._dialect.silence())
        elif self._dialect.comment and now - self._byte_at >= COMMENT_S:
            self._byte_at = now
            await self._client.send(self._dialect.comment)


def _goes_on(events: bytes) -> bool:
    """Whether they are more than an error of their own: the dispatcher's last event is one."""
    return not isinstance(next(read(events), None), Broke | None)


def _kept(headers: Headers) -> list[tuple[str, str]]:
    """Of a neuron's headers, those that speak of us: the body has another form now."""
    return [(name, value) for name, value in headers if name.startswith(_OURS)]

"""Sanic's HTTP/1.1, with what every request pays for done in one step: its head, a body that came with it, its answer.

Sanic stays the application, the router and the life of a connection, and its own code serves what is rare: a body that
comes later or in chunks, time-outs, errors of which no handler knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from sanic import Request
from sanic.exceptions import BadRequest, ExpectationFailed, PayloadTooLarge, RequestCancelled, RequestTimeout
from sanic.http.constants import Stage
from sanic.http.http1 import HTTP_CONTINUE, Http
from sanic.response import HTTPResponse
from sanic.server.protocols.http_protocol import HttpProtocol

from cortex.net.errors import ProtocolError
from cortex.net.headers import response_head, without_breaks
from cortex.net.request import RequestHead, asked_of

HEADER_LIMIT_BYTES = 32 * 1024  # agents send some KiB of what they are
LEFT = 499  # the status, for the log, of a client that left: nginx's word
LINGER_S = 2.0  # for the rest of a body that is refused
CHUNK_LINE_BYTES = 1024  # a chunk's size, and extensions that nobody reads
_CHUNK = re.compile(rb"\r\n[0-9A-Fa-f]{1,16}(?:[ \t]*;[^\r\n\0]*)?")  # with the line break in front of it
_END_OF_HEAD = b"\r\n\r\n"
_BODILESS = frozenset({204, 304})


class ParsedRequest(Request[Any, Any]):
    """A request whose head was read here. Its path is decoded once, and its context a plain attribute."""

    __slots__ = ("ctx", "path")

    def __init__(self, head: RequestHead, protocol: Any) -> None:
        headers: Any = head.headers  # Sanic makes a Header of it, in any case
        super().__init__(head.target, headers, head.version, head.method, protocol.transport, protocol.app)
        self.path: str = (self._parsed_url.path or b"/").decode()  # http://host alone asks for its root
        self.ctx = SimpleNamespace()  # type: ignore[misc]


class UnreadRequest(Request[Any, Any]):
    """What a head that cannot be read, or has not come whole, was about; the path may be empty."""

    __slots__ = ("path",)

    def __init__(self, method: str, path: str, protocol: Any) -> None:
        headers: Any = []
        super().__init__(b"*", headers, "1.1", method or "NONE", protocol.transport, protocol.app)
        self.path: str = path


class Http1(Http):
    """One connection's requests, one after the other."""

    __slots__ = ()

    async def http1_request_header(self) -> None:
        """Read a head, and its body if that is here already."""
        end = self.recv_buffer.find(_END_OF_HEAD)
        if not 0 <= end < HEADER_LIMIT_BYTES:
            end = await self._end_of_head()
        try:
            head = RequestHead(bytes(self.recv_buffer[: end + 2]))
        except ProtocolError as error:
            raise BadRequest(str(error)) from error
        self.keep_alive, self.head_only = head.keepalive, head.method == "HEAD"
        self.request = ParsedRequest(head, self.protocol)
        self.request.stream = self
        self._begin_body(head, end + len(_END_OF_HEAD))
        self.protocol.state["requests_count"] += 1

    async def _end_of_head(self) -> int:
        """Its time-out is one for all of it: a byte now and then would hold a connection for ever."""
        buffer: bytearray = self.recv_buffer
        seen, began = 0, time.monotonic()
        self.perft0 = time.perf_counter()
        protocol: Any = self.protocol
        while (end := buffer.find(_END_OF_HEAD, seen)) < 0:
            seen = max(0, len(buffer) - len(_END_OF_HEAD) + 1)
            if seen >= HEADER_LIMIT_BYTES:
                break
            protocol.silent_since(began)
            await self._receive_more()
        if not 0 <= end < HEADER_LIMIT_BYTES:
            raise PayloadTooLarge("Request header exceeds the size limit")
        return end

    def create_empty_request(self) -> None:
        """A request to hang an error on, where none could be read: its path says in which dialect it is told."""
        method, path = asked_of(bytes(self.recv_buffer[:HEADER_LIMIT_BYTES]))
        self.head_only = method == "HEAD"
        self.request = UnreadRequest(method, path, self.protocol)
        self.request.stream = self

    def _begin_body(self, head: RequestHead, begins: int) -> None:
        """Take a body that has come whole; leave any other to Sanic's reader."""
        ends = begins + head.length
        if not head.chunked and head.length <= self.request_max_size and ends <= len(self.recv_buffer):
            self.request.body = bytes(self.recv_buffer[begins:ends])
            del self.recv_buffer[:ends]
            return
        if head.expect not in (None, "100-continue"):
            raise ExpectationFailed(f"Unknown Expect: {head.expect}")
        self.expecting_continue = head.expect is not None
        if head.chunked:
            begins -= 2  # the reader begins with the line break before a chunk
        self.request_body: Any = "chunked" if head.chunked else True
        self.request_bytes = self.request_bytes_left = head.length
        del self.recv_buffer[:begins]

    async def receive_body(self) -> None:
        """The rest of the request. While it is on its way, a silence is as long as one of requests may be, not of answers."""
        self.stage = Stage.REQUEST
        try:
            await self.request.receive_body()  # type: ignore[no-untyped-call]
        except asyncio.CancelledError:
            self.request_body = None  # nobody waits for the rest
            raise
        finally:
            self.stage = Stage.HANDLER

    async def read(self) -> bytes | None:
        """Of a body. One that is too large is let come for a while once its sender has been told."""
        try:
            if self.request_body == "chunked" and not self.request_bytes_left:
                await self._check_chunk()
            return await super().read()
        except PayloadTooLarge:
            if self.stage is Stage.IDLE:
                await self._linger()
            raise

    async def _check_chunk(self) -> None:
        """Of a chunk's first line Sanic's reader takes what others read differently: "0x3", a bare line feed, no line break before it."""
        if self.expecting_continue:
            self.expecting_continue = False
            await self._send(HTTP_CONTINUE)
        buffer: bytearray = self.recv_buffer
        while (end := buffer.find(b"\r\n", len(b"\r\n0"))) < 0 and len(buffer) < CHUNK_LINE_BYTES:
            await self._receive_more()
        if not 0 < end < CHUNK_LINE_BYTES or not _CHUNK.fullmatch(buffer, 0, end):
            self.keep_alive = False
            raise BadRequest("the body is not written in chunks as HTTP/1.1 has them")

    async def _linger(self) -> None:
        """A connection that is closed with unread bytes is reset, and a client that still sends loses its answer."""
        left = self.request_bytes_left or 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while left > len(self.recv_buffer) or self.request_body == "chunked":
                    left -= len(self.recv_buffer)
                    self.recv_buffer.clear()
                    await self._receive_more()

    # ---- answers

    async def error_response(self, exception: Any) -> None:
        """To what no handler answered, where somebody may read it: who has not even told a path may speak no HTTP at all."""
        if not self.request:
            self.create_empty_request()
        left = isinstance(exception, RequestCancelled)
        if left or (isinstance(exception, RequestTimeout) and not self.request.path):
            self.keep_alive, self.stage = False, Stage.FAILED
            app: Any = self.protocol.app
            app.ended_unseen(self.request, LEFT if left else exception.status_code)
        else:
            await super().error_response(exception)

    def begin(self, status: int, headers: Iterable[tuple[str, str]]) -> bytes:
        """The head of an answer, to be sent by the caller, who also ends the answer: with `end`, or with `cut`."""
        self.stage = Stage.RESPONSE
        return response_head(status, headers, keepalive=self.keep_alive)

    def end(self) -> None:
        """The answer is whole."""
        self.stage = Stage.IDLE

    def cut(self) -> None:
        """The answer cannot be completed: close the connection, so that nobody takes what was sent for a whole one."""
        self.keep_alive, self.stage = False, Stage.FAILED
        if self.protocol.transport is not None:
            self.protocol.transport.abort()

    async def answer(self, response: HTTPResponse) -> None:
        """A whole answer in one write."""
        headers, body = response.headers, response.body or b""
        if has_body(response.status):
            if response.content_type:
                headers.setdefault("content-type", response.content_type)
            headers["content-length"] = str(len(body))
        head = self.begin(response.status, without_breaks(headers.items()))
        await self._send(head if self.head_only else head + body)
        self.end()


def has_body(status: int) -> bool:
    """Whether an answer with this status has one, be it empty."""
    return status not in _BODILESS


class Protocol(HttpProtocol):
    """Sanic's connection. Here is what every piece passes, in either direction."""

    __slots__ = ("_buffer_limit", "_paused", "_waiter")
    HTTP_CLASS = Http1

    def __init__(self, *, app: Any, **options: Any) -> None:
        super().__init__(app=app, **options)
        self._buffer_limit: int = app.config.REQUEST_BUFFER_SIZE
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        self._time = time.monotonic()
        self.recv_buffer += data
        if len(self.recv_buffer) >= self._buffer_limit and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def silent_since(self, then: float) -> None:
        """For Sanic's time-outs: what has come since does not count."""
        self._time = then

    def abort(self) -> None:
        """Close at once; what runs is cancelled as for a client that leaves."""
        if self.transport is not None:
            self.transport.abort()

    async def receive_more(self) -> None:
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    @property
    def is_writable(self) -> bool:
        """Whether the client keeps up."""
        return self._can_write.is_set()

    async def send(self, data: bytes) -> None:
        """Wait while the client is slow, then write. Raises RequestCancelled, a CancelledError, when it has gone."""
        if not self._can_write.is_set():
            await self._can_write.wait()
        self.write(data)

    def write(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            raise RequestCancelled
        self.transport.write(data)
        self._time = time.monotonic()

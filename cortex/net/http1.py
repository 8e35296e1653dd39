"""One connection to an upstream: a request out, its answer in, with back-pressure and one timer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from cortex.net.address import Address
from cortex.net.deadline import Deadline
from cortex.net.errors import ConnectionLost, IdleTimeout, NetError, ProtocolError
from cortex.net.response import Response

COPIED_BYTES = 64 * 1024  # up to here a body is copied behind its head, which costs less than two buffers do
BUFFER_LIMIT_BYTES = 256 * 1024  # a reader this far behind stops the upstream

# A network that silently swallows everything: found by the kernel's own probes where an answer is silent for long, and by
# missing receipts where something is sent. Long enough for a VPN that dials anew or a switch that restarts a port.
PROBE_AFTER_S = 5
PROBE_EVERY_S = 2
UNRECEIVED_S = 10.0
IN_VAIN = 2  # repetitions in a row: one may be a lost packet
_RETRANSMITS, _PROBES = 2, 3  # bytes of struct tcp_info (linux/tcp.h); any confirmation makes both zero


class Connection(asyncio.Protocol):
    """Serves one exchange at a time; between two it rests. `on_end` is called when it can serve no further one.

    answer   what is being read, None while the connection rests
    """

    __slots__ = (
        "_deadline",
        "_error",
        "_for_head",
        "_loop",
        "_on_end",
        "_paused",
        "_quick",
        "_timeout_s",
        "_transport",
        "_waiter",
        "address",
        "answer",
    )

    def __init__(self, address: Address, on_end: Callable[[Connection], None]) -> None:
        self.address = address
        self.answer: Response | None = None
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(self._loop, self._struck)
        self._timeout_s = 0.0
        self._for_head = False
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: NetError | None = None
        self._paused = False
        self._quick = False

    # ---- used by the pool and its exchanges

    def send(self, method: str, head: bytes, body: bytes) -> Response:
        """Send one request; its answer begins to fill."""
        assert self._transport is not None  # noqa: S101  the pool gets it connected
        self._deadline.clear()
        self.answer = Response(method)
        if self._transport.is_closing():  # it ended in the very moment in which it was taken
            self._error = self._error or ConnectionLost(before_head=True, upstream=self.address)
        elif len(body) <= COPIED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return self.answer

    async def wait_for_head(self, timeout_s: float | None) -> None:
        """Return when status and headers are there."""
        answer = self.current()
        if not answer.head_done:
            await self._wait(answer, timeout_s, for_head=True)
        if self._quick:
            self._quick = False
            self._limit_receipt(UNRECEIVED_S)

    async def wait_for_body(self, timeout_s: float | None) -> None:
        """Return when there is more of the body, or its end."""
        await self._wait(self.current(), timeout_s, for_head=False)

    def take(self) -> bytes:
        """The pieces of the body that came, joined; b"" when there are none."""
        data = self.current().take()
        if self._paused:
            self._paused = False
            cast("asyncio.Transport", self._transport).resume_reading()
        return data

    def current(self) -> Response:
        """The answer being read."""
        if self.answer is None:
            raise RuntimeError(f"no exchange is open on {self.address}")
        return self.answer

    def heard(self) -> bool:
        """Anything of the answer came."""
        return self.answer is not None and self.answer.heard

    def reusable(self) -> bool:
        """The answer is whole, the request was sent to its end, and both sides keep the connection."""
        answer, transport = self.answer, self._transport
        return (
            answer is not None
            and answer.complete
            and answer.keepalive
            and not self._paused  # what nobody reads goes on being stopped
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        )

    def expect_receipt(self, within_s: float) -> None:
        """For the next request: its upstream's host has to confirm it so soon, until the head of the answer is there."""
        if self.address.uds is None:
            self._quick = True
            self._limit_receipt(within_s)

    def abandon(self, *, unreceived: bool) -> None:
        """Somebody knows that no answer will come. What has begun to come is left alone.

        unreceived  so is a request that its host still confirms, which its kernel does however busy the host is
        """
        if self.answer is None or self.answer.head_done or (unreceived and not self._sends_in_vain()):
            return
        lost = ConnectionLost(before_head=True, upstream=self.address)
        lost.__cause__ = TimeoutError("nothing is heard from there")
        self._fail(lost)

    def rest(self, seconds: float) -> None:
        """No exchange for now; ends by itself after `seconds`."""
        self._let_go()
        self._deadline.set(seconds)

    def rested_too_long(self) -> bool:
        """True also where a busy event loop is late with its timers."""
        return self._deadline.passed()

    def abort(self) -> None:
        """Close at once; what is not yet sent is dropped, so that the upstream stops working on it."""
        self._deadline.close()
        if self.answer is not None:
            self.answer.close()
        if self._transport is not None:
            self._transport.abort()

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self.address.uds is None:
            self._watch_the_way(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        answer = self.answer
        if answer is None:  # nobody asked: whatever it is, the next answer must not begin with it
            self._end()
            return
        try:
            answer.feed(data)
        except ProtocolError as error:
            self._fail(error)
            return
        if answer.buffered > BUFFER_LIMIT_BYTES and not self._paused:
            self._paused = True
            cast("asyncio.Transport", self._transport).pause_reading()
        # Parts of a head and chunk sizes wake nobody and move no deadline.
        if self._waiter is not None and (answer.head_done if self._for_head else answer.buffered or answer.complete):
            self._wake()

    def eof_received(self) -> None:
        if self.answer is None:
            self._end()
            return
        self.answer.eof()
        if self.answer.complete:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._error is None:
            self._error = ConnectionLost(self.answer is None or not self.answer.head_done, self.address)
            self._error.__cause__ = exc
        self._end()

    # ---- inside

    def _watch_the_way(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_EVERY_S)
        self._limit_receipt(UNRECEIVED_S)

    def _limit_receipt(self, seconds: float) -> None:
        sock = cast("asyncio.Transport", self._transport).get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))

    def _sends_in_vain(self) -> bool:
        """Whether what was sent, or the kernel's probes, were repeated and nobody confirmed them."""
        sock = cast("asyncio.Transport", self._transport).get_extra_info("socket")
        if self.address.uds is not None or sock is None or sock.fileno() < 0:
            return False
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
        return bool(info[_RETRANSMITS] >= IN_VAIN or info[_PROBES] >= IN_VAIN)

    async def _wait(self, answer: Response, timeout_s: float | None, *, for_head: bool) -> None:
        if self._waiter is not None:
            raise RuntimeError(f"two readers of one answer of {self.address}")
        self._for_head = for_head
        if timeout_s is not None:
            self._timeout_s = timeout_s
            self._deadline.set(timeout_s)
        try:
            while not (answer.head_done if for_head else answer.buffered or answer.complete):
                if self._error is not None:
                    raise self._error
                self._waiter = self._loop.create_future()
                await self._waiter
        finally:
            self._waiter = None
            self._deadline.clear()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: NetError) -> None:
        """The first error is the one that is told."""
        if self._error is None:
            self._error = error
        self._end()

    def _struck(self) -> None:
        if self.answer is None:
            self._end()
        else:
            self._fail(IdleTimeout(self._timeout_s, self.address))

    def _end(self) -> None:
        self.abort()
        self._wake()
        self._on_end(self)

    def _let_go(self) -> None:
        if self.answer is not None:
            self.answer.close()
            self.answer = None

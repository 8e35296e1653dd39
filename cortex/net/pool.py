"""Connections kept alive per address, and exchanges that give theirs back exactly once.

async with Pool() as pool, await pool.open(address, "POST", "/v1/chat/completions", headers=…, body=…) as exchange:
    while piece := await exchange.read(idle_timeout_s=60):
        ...
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Coroutine
from types import TracebackType
from typing import Any, Self

from cortex.net.address import Address
from cortex.net.errors import ConnectFailed, ConnectionLost, ProtocolError
from cortex.net.headers import Headers, request_head
from cortex.net.http1 import Connection
from cortex.tasks import running

QUICK_BODY_BYTES = (
    64 * 1024
)  # a larger one may wait in the upstream's full buffer, which says nothing about the way there


HASTY_S = 1.0  # a loop under load may be as late itself
LOOKS = 4


async def _unless_only_we_are_late(work: Coroutine[Any, Any, None], timeout_s: float) -> None:
    """Await `work`. Between the looks at the clock the loop sees what has come: its own delay alone is no time-out."""
    async with running(work, name="connect") as connecting:
        for _ in range(LOOKS):
            await asyncio.wait([connecting], timeout=timeout_s / LOOKS)
            if connecting.done():
                return connecting.result()
    raise TimeoutError


class Pool:
    """All connections of one owner. They are opened on demand; how many are busy at once is for the caller to bound.

    connect_timeout_s     for name resolution and connecting together
    keepalive_s           a connection that rested longer is not used again (llama.cpp's server closes at 5 s)
    max_idle_per_address  more than these do not rest, they are closed
    keepalive             False: every request says `connection: close`
    """

    def __init__(
        self,
        *,
        connect_timeout_s: float = 5.0,
        keepalive_s: float = 4.0,
        max_idle_per_address: int = 64,
        keepalive: bool = True,
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._keepalive_s = keepalive_s
        self._max_idle = max_idle_per_address
        self._keepalive = keepalive
        self._open: set[Connection] = set()
        # The last to rest is the first to be used. A place may be empty while its connections are busy.
        self._idle: dict[Address, dict[Connection, None]] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<Pool {len(self._open)} open, {sum(map(len, self._idle.values()))} idle>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def open(
        self,
        address: Address,
        method: str,
        path: str,
        *,
        headers: Headers = (),
        body: bytes = b"",
        head_timeout_s: float | None = None,
        connect_timeout_s: float | None = None,
    ) -> Exchange:
        """Send a request and return when the head of its answer is there.

        `connect_timeout_s` instead of the pool's own is for who has another upstream to go to: so long may it also take
        until the upstream's host has received the request, on a connection that rested and may lead nowhere by now.

        Raises ConnectFailed, ConnectionLost(before_head=True), ProtocolError, IdleTimeout; ValueError for a request
        that must not be written. A resting connection that the peer closed in the moment of its reuse is replaced by
        a fresh one, once, and nobody notices.
        """
        head = request_head(address, method, path, headers, length=len(body), keepalive=self._keepalive)
        if (rested := self._take(address)) is not None:
            if connect_timeout_s is not None and len(body) <= QUICK_BODY_BYTES:
                rested.expect_receipt(connect_timeout_s)
            try:
                return await self._ask(rested, method, head, body, head_timeout_s)
            except ConnectionLost as error:
                if rested.heard():
                    raise
                if isinstance(error.__cause__, TimeoutError):  # the network's own: the next one would lead nowhere, too
                    self.forget(address)
                    raise
        connection = await self._connect(address, connect_timeout_s or self._connect_timeout_s)
        return await self._ask(connection, method, head, body, head_timeout_s)

    def forget(self, address: Address) -> None:
        """Close what rests there: the way to it is broken."""
        for connection in list(self._idle.get(address, ())):
            self._drop(connection)

    def abandon(self, addresses: Collection[Address], *, unreceived: bool = False) -> None:
        """End every exchange with these upstreams of which not even the head has come, with ConnectionLost.

        `unreceived`: only where the upstream's host does not confirm what is sent to it.
        """
        for connection in [each for each in self._open if each.address in addresses]:
            connection.abandon(unreceived=unreceived)

    async def aclose(self) -> None:
        """Close every connection; whoever still reads gets ConnectionLost, whoever opens ConnectFailed."""
        self._closed = True
        for connection in list(self._open):
            self._drop(connection)
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    async def _ask(
        self, connection: Connection, method: str, head: bytes, body: bytes, timeout_s: float | None
    ) -> Exchange:
        try:
            connection.send(method, head, body)
            await connection.wait_for_head(timeout_s)
        except BaseException:  # cancellation too: the answer to an abandoned request belongs to nobody
            self._drop(connection)
            raise
        return Exchange(connection, self._release)

    async def _connect(self, address: Address, timeout_s: float) -> Connection:
        connection = Connection(address, self._drop)
        try:
            if timeout_s < HASTY_S:
                await _unless_only_we_are_late(self._transport(connection), timeout_s)
            else:
                async with asyncio.timeout(timeout_s):
                    await self._transport(connection)
        except TimeoutError as error:
            self.forget(address)
            raise ConnectFailed(f"{address} accepted no connection within {timeout_s:g} s") from error
        except (OSError, ValueError) as error:  # ValueError: a host name or socket path that cannot exist
            raise ConnectFailed(f"cannot connect to {address}: {error}") from error
        except BaseException:  # cancelled, perhaps in the very moment in which it came about
            connection.abort()
            raise
        if self._closed:
            connection.abort()
            raise ConnectFailed(f"cannot connect to {address}: the pool is closed")
        self._open.add(connection)
        return connection

    async def _transport(self, connection: Connection) -> None:
        loop, address = asyncio.get_running_loop(), connection.address
        if address.uds is not None:
            await loop.create_unix_connection(lambda: connection, address.uds)
        else:
            await loop.create_connection(lambda: connection, address.host, address.port, ssl=address.tls)

    def _take(self, address: Address) -> Connection | None:
        resting = self._idle.get(address)
        while resting:
            connection, _ = resting.popitem()
            if not connection.rested_too_long():
                return connection
            self._drop(connection)
        return None

    def _release(self, connection: Connection) -> None:
        resting = self._idle.get(connection.address)
        if resting is None:
            resting = self._idle[connection.address] = {}
        if self._closed or not self._keepalive or not connection.reusable() or len(resting) >= self._max_idle:
            self._drop(connection)
            return
        connection.rest(self._keepalive_s)
        resting[connection] = None

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        resting = self._idle.get(connection.address)
        if resting is not None:
            resting.pop(connection, None)
            if not resting:
                del self._idle[connection.address]
        connection.abort()


class Exchange:
    """One request's answer: the head is there, the body is read piece by piece.

    Its connection is freed once: back to the pool as soon as the body was read to its end (or the exchange was closed when
    all of it had come), closed in every other case.
    Header names are lower-cased.
    """

    __slots__ = ("_answer", "_connection", "_is_event_stream", "_release", "headers", "status")

    def __init__(self, connection: Connection, release: Callable[[Connection], None]) -> None:
        answer = connection.current()
        self.status: int = answer.status
        self.headers: Headers = answer.headers
        self._answer = answer
        self._connection: Connection | None = connection
        self._release = release
        self._is_event_stream: bool | None = None

    def __repr__(self) -> str:
        return f"<Exchange {self.status}{'' if self._connection else ', freed'}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def header(self, name: str) -> str | None:
        """The first value of a header, by its lower-cased name."""
        return self._answer.header(name)

    def is_event_stream(self) -> bool:
        """Whether it has events that can be seen: compressed, it is a body like any other."""
        if self._is_event_stream is None:
            events = _is_event_stream(self.header("content-type") or "")
            self._is_event_stream = events and self.header("content-encoding") in (None, "identity")
        return self._is_event_stream

    async def read(self, idle_timeout_s: float | None = None) -> bytes:
        """The next piece as it came (pieces that piled up are joined), b"" at the end.

        Raises ConnectionLost, ProtocolError, or IdleTimeout when nothing comes for `idle_timeout_s`.
        """
        answer, connection = self._answer, self._connection
        if connection is None:
            if answer.complete and not answer.buffered:
                return b""
            raise RuntimeError("the exchange was closed before its body ended")
        if not answer.buffered and not answer.complete:
            await connection.wait_for_body(idle_timeout_s)
        data = connection.take()
        if answer.complete:
            self.close()
        return data

    async def read_all(self, limit_bytes: int, idle_timeout_s: float | None = None) -> bytes:
        """The whole body; ProtocolError beyond `limit_bytes`."""
        pieces: list[bytes] = []
        size = 0
        while piece := await self.read(idle_timeout_s):
            pieces.append(piece)
            size += len(piece)
            if size > limit_bytes:
                raise ProtocolError(f"the answer is larger than the {limit_bytes} bytes accepted here")
        return b"".join(pieces)

    def close(self) -> None:
        """Free the connection now; a second time does nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._release(connection)


@functools.lru_cache(maxsize=64)
def _is_event_stream(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"

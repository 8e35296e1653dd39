"""A pool beside an upstream that misbehaves, and what most tests of the data plane ask of them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from helpers.upstream import FakeUpstream, Peer, Script, forever

from cortex.net.address import Address
from cortex.net.pool import Pool

Run = Callable[[Coroutine[Any, Any, None]], None]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
ALWAYS_OK: Script = [forever(Peer.request, OK)]
NOTHING_LEFT = "<Pool 0 open, 0 idle>"


@contextlib.asynccontextmanager
async def serving(
    *scripts: Script, uds: Path | None = None, **options: Any
) -> AsyncIterator[tuple[Pool, Address, FakeUpstream]]:
    async with FakeUpstream(*scripts, uds=uds) as upstream, Pool(**options) as pool:
        yield pool, Address.parse(upstream.url), upstream


async def fetch(pool: Pool, address: Address, body: bytes = b"") -> bytes:
    async with await pool.open(address, "POST", "/x", headers=[("x", "y")], body=body) as exchange:
        return await exchange.read_all(1_000_000)


def heard(pool: Pool) -> bool:
    return any(connection.heard() for connection in pool._open)


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose queue of connections is full, so that connecting to it hangs."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]

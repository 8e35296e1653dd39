"""What the client of a stream gets while its upstream is silent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from helpers.upstream import FakeUpstream, Peer
from helpers.waiting import until

from cortex.net.address import Address
from cortex.net.errors import ConnectionLost
from cortex.net.keepalive import open_with_keepalive
from cortex.net.pool import Exchange, Pool
from cortex.tasks import running

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
COMMENT = b": waiting\n\n"


class Client:
    """A sink that remembers, and is gone after `leaves_after` pieces."""

    def __init__(self, leaves_after: int | None = None) -> None:
        self.head: tuple[int, dict[str, str]] | None = None
        self.pieces: list[bytes] = []
        self._leaves_after = leaves_after

    async def start(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        assert self.head is None
        self.head = (status, dict(headers))

    async def send(self, data: bytes) -> None:
        if self._leaves_after is not None and len(self.pieces) >= self._leaves_after:
            raise ConnectionResetError
        self.pieces.append(data)

    async def finish(self) -> None:
        raise AssertionError("the answer has not even begun")


def test_an_upstream_that_answers_in_time_is_just_opened(run):
    """No head and no comment is sent before the grace is over, so the answer's own status reaches the client."""

    async def scenario() -> None:
        client = Client()
        async with FakeUpstream([Peer.request, OK]) as upstream, Pool() as pool:
            opening = pool.open(Address.parse(upstream.url), "POST", "/")
            exchange, started = await open_with_keepalive(opening, client, grace_s=60, comment=COMMENT)
            async with exchange:
                assert (started, client.head, await exchange.read_all(2)) == (False, None, b"ok")

    run(scenario())


def test_a_slow_upstream_is_bridged_with_comments(run):
    """After the grace the client has a stream's head, then a comment every interval until the upstream answers."""

    async def scenario() -> None:
        client, gate = Client(), asyncio.Event()
        async with FakeUpstream([Peer.request, gate, OK]) as upstream, Pool() as pool:
            opening = pool.open(Address.parse(upstream.url), "POST", "/")
            waiting = open_with_keepalive(opening, client, grace_s=0.01, interval_s=0.01, comment=COMMENT)
            async with running(waiting, name="wait") as task:
                await until(lambda: len(client.pieces) >= 3)
                assert client.head is not None
                status, headers = client.head
                assert status == 200
                assert headers["content-type"].startswith("text/event-stream")
                assert headers["x-accel-buffering"] == "no"
                gate.set()
                exchange, started = await task
            async with exchange:
                assert (started, await exchange.read_all(2)) == (True, b"ok")
            assert set(client.pieces) == {COMMENT}

    run(scenario())


@pytest.mark.parametrize("grace_s", [60, 0.01], ids=["in time", "late"])
def test_a_failure_to_open_is_the_callers(run, grace_s: float):
    """The error comes as it is, before and after the sink was started."""

    async def scenario() -> None:
        client, gate = Client(), asyncio.Event()
        async with FakeUpstream([Peer.request, gate, Peer.close]) as upstream, Pool() as pool:
            opening = pool.open(Address.parse(upstream.url), "POST", "/")
            waiting = open_with_keepalive(opening, client, grace_s=grace_s, interval_s=0.01, comment=COMMENT)
            async with running(waiting, name="wait") as task:
                await until(lambda: upstream.requests and (client.pieces or grace_s > 1))
                gate.set()
                with pytest.raises(ConnectionLost):
                    await task
            assert repr(pool) == "<Pool 0 open, 0 idle>"

    run(scenario())


def test_a_client_that_leaves_cancels_the_opening(run):
    """The sink's own error comes through, and the upstream sees that nobody waits any more."""

    async def scenario() -> None:
        client = Client(leaves_after=1)
        async with FakeUpstream([Peer.request]) as upstream, Pool() as pool:
            opening = pool.open(Address.parse(upstream.url), "POST", "/")
            with pytest.raises(ConnectionResetError):
                await open_with_keepalive(opening, client, grace_s=0.01, interval_s=0.01, comment=COMMENT)
            assert repr(pool) == "<Pool 0 open, 0 idle>"
            await until(upstream.peers[0].left.is_set)

    run(scenario())


def test_cancelled_while_the_upstream_is_silent(run):
    """Cancellation ends the opening as well."""

    async def scenario() -> None:
        async with FakeUpstream([Peer.request]) as upstream, Pool() as pool:
            opening = pool.open(Address.parse(upstream.url), "POST", "/")
            async with running(open_with_keepalive(opening, Client(), grace_s=60, comment=COMMENT), name="wait"):
                await until(lambda: upstream.requests)
            assert repr(pool) == "<Pool 0 open, 0 idle>"

    run(scenario())


def test_an_exchange_that_came_too_late_is_closed(run):
    """Cancelled in the very turn in which the upstream answered: the exchange belongs to nobody and is closed."""

    async def scenario() -> None:
        async with FakeUpstream([Peer.request, OK[:-1]]) as upstream, Pool() as pool:
            exchanges: list[Exchange] = []

            async def opening() -> Exchange:
                exchanges.append(await pool.open(Address.parse(upstream.url), "POST", "/"))
                return exchanges[0]

            async with running(open_with_keepalive(opening(), Client(), grace_s=60, comment=COMMENT), name="wait"):
                while not exchanges:
                    await asyncio.sleep(0)
            assert repr(exchanges[0]) == "<Exchange 200, freed>"
            assert repr(pool) == "<Pool 0 open, 0 idle>"

    run(scenario())

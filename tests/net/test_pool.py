"""How connections come about, are kept, and are not kept: on real sockets, against an upstream that misbehaves."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from helpers.pooled import ALWAYS_OK, HEAD, NOTHING_LEFT, OK, Run, fetch, full_backlog, serving
from helpers.upstream import Peer, Script
from helpers.waiting import until

from cortex.net.address import Address
from cortex.net.errors import ConnectFailed, ConnectionLost
from cortex.net.pool import Exchange, Pool
from cortex.tasks import running

# ---- keep-alive


def test_what_was_abandoned_on_a_used_connection_is_not_sent_again(run: Run):
    """The upstream may work on it: whoever abandons it hears so, and no second request is made."""

    async def scenario() -> None:
        async with serving([Peer.request, OK, Peer.request], ALWAYS_OK) as (pool, address, upstream):
            await fetch(pool, address)
            async with running(fetch(pool, address, b"once"), name="second") as second:
                await until(lambda: len(upstream.requests) == 2)
                pool.abandon({address})
                with pytest.raises(ConnectionLost):
                    await second
            assert len(upstream.requests) == 2

    run(scenario())


def test_a_connection_is_used_again(run: Run):
    """Requests one after another share a connection, and each is sent whole."""

    async def scenario() -> None:
        async with serving(ALWAYS_OK) as (pool, address, upstream):
            for body in (b"one", b"two", b""):
                assert await fetch(pool, address, body) == b"hello"
                assert repr(pool) == "<Pool 1 open, 1 idle>"
            assert [request.body for request in upstream.peers[0].requests] == [b"one", b"two", b""]
            assert upstream.requests[0].line == "POST /x HTTP/1.1"
            assert upstream.requests[0].header("x") == "y"
            assert upstream.requests[0].header("host") == address.authority

    run(scenario())


def test_the_connection_is_back_with_the_last_byte(run: Run):
    """Whoever still holds a finished exchange holds no connection, and closing it again frees nothing twice."""

    async def scenario() -> None:
        async with serving(ALWAYS_OK) as (pool, address, upstream):
            async with await pool.open(address, "GET", "/") as first:
                assert repr(pool) == "<Pool 1 open, 0 idle>"
                assert await first.read() == b"hello"
                assert repr(pool) == "<Pool 1 open, 1 idle>"
                async with await pool.open(address, "GET", "/") as second:
                    assert await first.read() == b""
                    first.close()
                    assert await second.read_all(5) == b"hello"
            assert len(upstream.peers) == 1

    run(scenario())


def test_parallel_requests_have_connections_of_their_own(run: Run):
    """Two at a time are two connections, and no more than `max_idle_per_address` stay."""

    async def scenario() -> None:
        gate = asyncio.Event()
        script: Script = [Peer.request, gate, OK]
        async with serving(script, max_idle_per_address=2) as (pool, address, upstream):
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(fetch(pool, address))
                await until(lambda: len(upstream.requests) == 3)
                assert repr(pool) == "<Pool 3 open, 0 idle>"
                gate.set()
            assert repr(pool) == "<Pool 2 open, 2 idle>"

    run(scenario())


@pytest.mark.parametrize(
    "options",
    [{"keepalive": False}, {"keepalive_s": 0.0}, {"max_idle_per_address": 0}],
    ids=lambda options: next(iter(options)),
)
def test_connections_that_shall_not_be_kept_are_not(run: Run, options: dict[str, Any]):
    """Each way to say so gives every request a fresh connection."""

    async def scenario() -> None:
        async with serving(ALWAYS_OK, **options) as (pool, address, upstream):
            await fetch(pool, address)
            await fetch(pool, address)
            assert len(upstream.peers) == 2
            said = upstream.requests[0].header("connection")
            assert said == ("close" if "keepalive" in options else None)

    run(scenario())


def test_a_connection_that_rests_too_long_is_closed(run: Run):
    """Nothing is kept for ever, also when no further request comes."""

    async def scenario() -> None:
        async with serving(ALWAYS_OK, keepalive_s=0.05) as (pool, address, upstream):
            await fetch(pool, address)
            await until(lambda: repr(pool) == NOTHING_LEFT)
            await asyncio.wait_for(upstream.peers[0].left.wait(), 10)

    run(scenario())


@pytest.mark.parametrize("ending", [Peer.close, Peer.reset, b"\0", OK], ids=["close", "reset", "byte", "answer"])
def test_a_resting_connection_that_stirs_is_dropped(run: Run, ending: Any):
    """Closed by the peer, or with bytes nobody asked for: no later request may see either."""

    async def scenario() -> None:
        stir = asyncio.Event()
        async with serving([Peer.request, OK, stir, ending], ALWAYS_OK) as (pool, address, _):
            await fetch(pool, address)
            assert repr(pool) == "<Pool 1 open, 1 idle>"
            stir.set()
            await until(lambda: repr(pool) == NOTHING_LEFT)
            assert await fetch(pool, address) == b"hello"

    run(scenario())


@pytest.mark.parametrize("ending", [Peer.close, Peer.reset], ids=["close", "reset"])
def test_the_keepalive_race_is_invisible(run: Run, ending: Any):
    """A request on a reused connection that the peer closed just then is sent once more, on a fresh one."""

    async def scenario() -> None:
        async with serving([Peer.request, OK, Peer.request, ending], ALWAYS_OK) as (pool, address, upstream):
            await fetch(pool, address)
            assert await fetch(pool, address, b"again") == b"hello"
            assert [len(peer.requests) for peer in upstream.peers] == [2, 1]
            assert upstream.peers[1].requests[0].body == b"again"

    run(scenario())


def test_a_fresh_connection_is_not_tried_twice(run: Run):
    """Without reuse there was no race: the upstream read the request and left, and the caller learns it."""

    async def scenario() -> None:
        async with serving([Peer.request, Peer.close]) as (pool, address, upstream):
            with pytest.raises(ConnectionLost, match="before it answered") as caught:
                await fetch(pool, address)
            assert caught.value.before_head
            assert len(upstream.requests) == 1

    run(scenario())


def test_a_reused_connection_that_answered_a_byte_is_not_tried_twice(run: Run):
    """One byte of an answer proves that the request was taken."""

    async def scenario() -> None:
        async with serving([Peer.request, OK, Peer.request, b"H", Peer.close], ALWAYS_OK) as (pool, address, upstream):
            await fetch(pool, address)
            with pytest.raises(ConnectionLost):
                await fetch(pool, address)
            assert len(upstream.peers) == 1

    run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"junk",
    ],
    ids=["close", "1.0", "junk"],
)
def test_what_the_answer_says_about_its_connection_counts(run: Run, answer: bytes):
    """A connection that the upstream has done with is not used again, although it is still open."""

    async def scenario() -> None:
        async with serving([Peer.request, answer]) as (pool, address, _):
            assert await fetch(pool, address) == b"hello"
            assert repr(pool) == NOTHING_LEFT

    run(scenario())


def test_an_answer_before_the_end_of_the_request(run: Run):
    """An upstream may refuse a body unread; the rest of that body must not meet the next request."""

    async def scenario() -> None:
        gate = asyncio.Event()
        async with serving([Peer.head, OK, gate]) as (pool, address, _):
            assert await fetch(pool, address, b"x" * 16_000_000) == b"hello"
            assert repr(pool) == NOTHING_LEFT
            gate.set()

    run(scenario())


def test_an_upstream_that_hangs_up_at_once(run: Run):
    """However the end of the connection and the request cross, the caller gets an error of ours, and no hang."""

    async def scenario() -> None:
        for ending in (Peer.close, Peer.reset):
            async with serving([ending]) as (pool, address, _):
                for _ in range(50):
                    with pytest.raises((ConnectionLost, ConnectFailed)):
                        await fetch(pool, address)
                    assert repr(pool) == NOTHING_LEFT

    run(scenario())


# ---- connecting


def test_nobody_listens(run: Run, tmp_path: Path):
    """Both families say whom they could not reach."""

    async def scenario() -> None:
        async with Pool() as pool:
            with socket.socket() as unused:
                unused.bind(("127.0.0.1", 0))
                address = Address("127.0.0.1", unused.getsockname()[1])
                with pytest.raises(ConnectFailed, match=f"cannot connect to {address}"):
                    await pool.open(address, "GET", "/")
            with pytest.raises(ConnectFailed, match=r"none\.sock"):
                await pool.open(Address("localhost", 0, str(tmp_path / "none.sock")), "GET", "/")
            with pytest.raises(ConnectFailed, match="cannot connect"):
                await pool.open(Address("localhost", 0, "/" + "x" * 200), "GET", "/")
            with pytest.raises(ConnectFailed, match="cannot connect"):
                await pool.open(Address("x" * 70, 1), "GET", "/")
            assert repr(pool) == NOTHING_LEFT

    run(scenario())


def test_connecting_takes_no_longer_than_allowed(run: Run):
    """A host that swallows our packets costs the connect time-out, not the request's."""

    async def scenario() -> None:
        with full_backlog() as port:
            async with Pool(connect_timeout_s=0.05) as pool:
                with pytest.raises(ConnectFailed, match=r"accepted no connection within 0\.05 s"):
                    await pool.open(Address("127.0.0.1", port), "GET", "/")

    run(scenario())


def test_a_unix_socket_is_an_address_like_any_other(run: Run, tmp_path: Path):
    """Engines listen on one; keep-alive works there, too."""

    async def scenario() -> None:
        async with serving(ALWAYS_OK, uds=tmp_path / "s") as (pool, address, upstream):
            await fetch(pool, address)
            assert await fetch(pool, address) == b"hello"
            assert len(upstream.peers) == 1
            assert upstream.requests[0].header("host") == "localhost"

    run(scenario())


def test_what_must_not_be_written_is_not(run: Run):
    """A header that would become two is refused before anything is sent."""

    async def scenario() -> None:
        async with serving(ALWAYS_OK) as (pool, address, upstream):
            with pytest.raises(ValueError, match="line break"):
                await pool.open(address, "GET", "/", headers=[("x", "a\r\nhost: evil")])
            assert upstream.peers == []

    run(scenario())


def test_two_readers_of_one_exchange_are_a_mistake(run: Run):
    """Each would get half of the body; the second is told."""

    async def scenario() -> None:
        async with serving([Peer.request, HEAD]) as (pool, address, _):
            exchange: Exchange
            async with await pool.open(address, "GET", "/") as exchange, running(exchange.read(), name="read"):
                await asyncio.sleep(0)
                with pytest.raises(RuntimeError, match="two readers"):
                    await exchange.read()

    run(scenario())

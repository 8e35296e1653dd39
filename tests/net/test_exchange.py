"""One request and its answer: truncated, garbled, abandoned, late and slow, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.pooled import ALWAYS_OK, CHUNKED, HEAD, NOTHING_LEFT, OK, Run, fetch, full_backlog, heard, serving
from helpers.upstream import Peer, Script, forever
from helpers.waiting import until

from cortex.net.address import Address
from cortex.net.deadline import Deadline
from cortex.net.errors import ConnectFailed, ConnectionLost, IdleTimeout, NetError, ProtocolError
from cortex.net.http1 import BUFFER_LIMIT_BYTES
from cortex.net.pool import Pool
from cortex.tasks import running

# ---- answers that go wrong


@pytest.mark.parametrize("ending", [Peer.close, Peer.reset], ids=["close", "reset"])
@pytest.mark.parametrize("whole", [OK, CHUNKED], ids=["length", "chunked"])
def test_a_truncated_answer_never_looks_whole(run: Run, whole: bytes, ending: Any):
    """Wherever the upstream dies inside its answer, reading it to the end fails."""

    async def scenario() -> None:
        for cut in range(1, len(whole)):
            async with serving([Peer.request, whole[:cut], ending]) as (pool, address, _):
                with pytest.raises(ConnectionLost) as caught:
                    await fetch(pool, address)
                assert caught.value.before_head == (cut < whole.index(b"\r\n\r\n") + 4)
                assert repr(pool) == NOTHING_LEFT

    run(scenario())


@pytest.mark.parametrize("whole", [OK, CHUNKED], ids=["length", "chunked"])
def test_an_answer_cut_by_the_network_is_put_together(run: Run, whole: bytes):
    """Two segments, cut at every byte, are one answer, and the connection is kept."""

    async def scenario() -> None:
        cut = 0

        async def in_two(peer: Peer) -> None:
            await peer.send(whole[:cut])
            await asyncio.sleep(0)
            await peer.send(whole[cut:])

        async with serving([forever(Peer.request, in_two)]) as (pool, address, upstream):
            for cut in range(1, len(whole)):  # noqa: B007  in_two reads it
                assert await fetch(pool, address) == b"hello"
            assert len(upstream.peers) == 1

    run(scenario())


def test_a_body_without_length_ends_with_the_connection(run: Run):
    """What old servers send is whole at the regular end."""

    async def scenario() -> None:
        async with serving([Peer.request, b"HTTP/1.1 200 OK\r\n\r\nhello", Peer.close]) as (pool, address, _):
            assert await fetch(pool, address) == b"hello"
            assert repr(pool) == NOTHING_LEFT

    run(scenario())


def test_a_body_without_length_must_not_end_with_a_reset(run: Run):
    """A reset is no regular end of anything."""

    async def scenario() -> None:
        gate = asyncio.Event()
        async with (
            serving([Peer.request, b"HTTP/1.1 200 OK\r\n\r\nhello", gate, Peer.reset]) as (pool, address, _),
            await pool.open(address, "GET", "/") as exchange,
        ):
            assert await exchange.read() == b"hello"
            gate.set()
            with pytest.raises(ConnectionLost, match="in the middle"):
                await exchange.read()

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, ProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ProtocolError),
    ],
    ids=["garbage", "huge head", "bad chunk"],
)
def test_what_is_no_answer_is_told_and_dropped(run: Run, answer: bytes, error: type[NetError]):
    """The connection goes, the caller gets an error of ours."""

    async def scenario() -> None:
        async with serving([Peer.request, answer]) as (pool, address, _):
            with pytest.raises(error):
                await fetch(pool, address)
            assert repr(pool) == NOTHING_LEFT

    run(scenario())


def test_interim_answers_are_skipped(run: Run):
    """100 and 103 announce an answer, they are none."""

    async def scenario() -> None:
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        gate = asyncio.Event()
        async with (
            serving([Peer.request, interim, gate, OK]) as (pool, address, _),
            running(pool.open(address, "GET", "/"), name="open") as opening,
        ):
            await until(lambda: heard(pool))
            assert not opening.done()
            gate.set()
            async with await opening as exchange:
                assert (exchange.status, exchange.header("link")) == (200, None)

    run(scenario())


def test_a_head_request_has_no_body(run: Run):
    """The length of an answer to HEAD is told, not sent."""

    async def scenario() -> None:
        async with (
            serving([Peer.request, HEAD]) as (pool, address, _),
            await pool.open(address, "HEAD", "/") as exchange,
        ):
            assert exchange.header("content-length") == "5"
            assert await exchange.read() == b""

    run(scenario())


def test_a_body_beyond_the_limit_is_not_collected(run: Run):
    """`read_all` says how much it would have taken."""

    async def scenario() -> None:
        async with serving(ALWAYS_OK) as (pool, address, _), await pool.open(address, "GET", "/") as exchange:
            with pytest.raises(ProtocolError, match="larger than the 4 bytes"):
                await exchange.read_all(4)

    run(scenario())


# ---- leaving early


@pytest.mark.parametrize("script", [[], [Peer.request], [Peer.request, HEAD[:20]]], ids=["unread", "read", "half head"])
def test_cancelled_before_the_head(run: Run, script: Script):
    """Whoever stops waiting for a head leaves no connection, and the upstream notices."""

    async def scenario() -> None:
        async with serving(script) as (pool, address, upstream):
            async with running(fetch(pool, address), name="fetch"):
                await until(lambda: upstream.peers and repr(pool) == "<Pool 1 open, 0 idle>")
            assert repr(pool) == NOTHING_LEFT
            await asyncio.wait_for(upstream.peers[0].left.wait(), 10)

    run(scenario())


def test_cancelled_in_the_body(run: Run):
    """The same in the middle of an answer."""

    async def scenario() -> None:
        async with serving([Peer.request, HEAD, b"he"]) as (pool, address, upstream):
            async with running(fetch(pool, address), name="fetch"):
                await until(lambda: heard(pool))
            assert repr(pool) == NOTHING_LEFT
            await asyncio.wait_for(upstream.peers[0].left.wait(), 10)

    run(scenario())


def test_cancelled_while_connecting(run: Run):
    """A connection that does not come about is not kept either."""

    async def scenario() -> None:
        with full_backlog() as port:
            async with Pool() as pool:
                async with running(fetch(pool, Address("127.0.0.1", port)), name="fetch") as fetching:
                    for _ in range(20):
                        await asyncio.sleep(0)
                    assert not fetching.done()
                assert repr(pool) == NOTHING_LEFT

    run(scenario())


def test_cancelled_at_every_step(run: Run):
    """Wherever in its life a request is cancelled, the pool counts right and the next request is served."""

    async def scenario() -> None:
        async with serving([forever(Peer.request, b"HTTP/1.1 200 OK\r\n", b"Content-Length: 5\r\n\r\nhe", b"llo")]) as (
            pool,
            address,
            _,
        ):
            finished = 0
            for turns in range(200):
                async with running(fetch(pool, address), name="fetch") as fetching:
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    finished += fetching.done()
                assert repr(pool) in (NOTHING_LEFT, "<Pool 1 open, 1 idle>")
            assert await fetch(pool, address) == b"hello"
            assert 0 < finished < 200

    run(scenario())


def test_cancelled_at_every_step_of_a_hasty_connection(run: Run):
    """Also in the very moment in which it has come about: nobody has it then, and the upstream sees it go."""

    async def scenario() -> None:
        for turns in range(20):
            async with serving(ALWAYS_OK) as (pool, address, upstream):
                opening = pool.open(address, "GET", "/", connect_timeout_s=0.3)
                async with running(opening, name="open") as task:
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    if task.done():
                        break
                for peer in upstream.peers:
                    await asyncio.wait_for(peer.left.wait(), 10)
                assert repr(pool) == NOTHING_LEFT

    run(scenario())


def test_an_answer_that_was_whole_and_not_read_leaves_a_connection_that_can_be_used(run: Run, tmp_path: Path):
    """It filled the buffer to its limit, where reading stops: the next answer on that connection must come all the same."""

    size = BUFFER_LIMIT_BYTES + 1  # passes the limit with its last byte

    async def scenario() -> None:
        large = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
        async with serving([Peer.request, large, Peer.request, OK], ALWAYS_OK, uds=tmp_path / "s") as (
            pool,
            address,
            _,
        ):
            async with await pool.open(address, "GET", "/"):
                await until(lambda: _whole(pool))
            async with await pool.open(address, "GET", "/", head_timeout_s=10) as exchange:
                assert await exchange.read_all(5, 10) == b"hello"

    run(scenario())


def _whole(pool: Pool) -> bool:
    return all(connection.current().complete for connection in pool._open)


def test_an_exchange_left_early_is_closed(run: Run):
    """Bytes that nobody read must not be in the next answer; reading on is a mistake that is told."""

    async def scenario() -> None:
        async with serving([Peer.request, HEAD, b"he"]) as (pool, address, upstream):
            async with await pool.open(address, "GET", "/") as exchange:
                pass
            assert repr(pool) == NOTHING_LEFT
            with pytest.raises(RuntimeError, match="closed before its body ended"):
                await exchange.read()
            await asyncio.wait_for(upstream.peers[0].left.wait(), 10)

    run(scenario())


def test_a_closed_pool_ends_its_exchanges(run: Run):
    """Shutdown waits for nobody: readers get an error, and nothing new is opened."""

    async def scenario() -> None:
        async with serving([Peer.request, HEAD]) as (pool, address, _):
            exchange = await pool.open(address, "GET", "/")
            async with running(exchange.read(), name="read") as reading:
                await asyncio.sleep(0)
                await pool.aclose()
                with pytest.raises(ConnectionLost):
                    await reading
            with pytest.raises(ConnectFailed, match="the pool is closed"):
                await pool.open(address, "GET", "/")
            assert repr(pool) == NOTHING_LEFT

    run(scenario())


# ---- time and pace


@pytest.mark.parametrize("script", [[], [Peer.request, HEAD[:20]]], ids=["silence", "half head"])
def test_a_head_that_does_not_come_times_out(run: Run, script: Script):
    """`head_timeout_s` is for the whole head, and the connection goes with it."""

    async def scenario() -> None:
        async with serving(script) as (pool, address, _):
            with pytest.raises(IdleTimeout, match=r"sent nothing for 0\.05 s") as caught:
                await pool.open(address, "GET", "/", head_timeout_s=0.05)
            assert caught.value.seconds == 0.05
            assert repr(pool) == NOTHING_LEFT

    run(scenario())


def test_a_body_that_stalls_times_out(run: Run):
    """`idle_timeout_s` counts from the read on; what came before is delivered."""

    async def scenario() -> None:
        async with serving([Peer.request, HEAD, b"he"]) as (pool, address, _):
            async with await pool.open(address, "GET", "/", head_timeout_s=60) as exchange:
                assert await exchange.read(60) == b"he"
                with pytest.raises(IdleTimeout):
                    await exchange.read(0.05)
            assert repr(pool) == NOTHING_LEFT

    run(scenario())


def test_a_timeout_belongs_to_its_wait(run: Run):
    """A deadline that was met does not strike in a later read that waits longer."""

    async def scenario() -> None:
        gate, later = asyncio.Event(), asyncio.Event()
        clock = Deadline(asyncio.get_running_loop(), later.set)
        async with (
            serving([Peer.request, HEAD, b"he", gate, b"llo"]) as (pool, address, _),
            await pool.open(address, "GET", "/", head_timeout_s=0.05) as exchange,
        ):
            assert await exchange.read(0.05) == b"he"
            async with running(exchange.read(), name="read") as reading:
                clock.set(0.1)
                await later.wait()
                gate.set()
                assert await reading == b"llo"

    run(scenario())


def test_a_slow_reader_stops_the_upstream(run: Run, tmp_path: Path):
    """An answer of 32 MiB that nobody reads stays with the upstream, but for the buffers in between; read, it is whole."""

    async def scenario() -> None:
        piece = bytes(range(256)) * 256
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (512 * len(piece))
        script: Script = [Peer.request, head, *[piece] * 512]
        async with (
            serving(script, uds=tmp_path / "s") as (pool, address, upstream),
            await pool.open(address, "GET", "/") as exchange,
        ):
            await until(lambda: _paused(pool) and upstream.peers[0].stalled)
            await _until_constant(lambda: upstream.peers[0].sent)
            assert upstream.peers[0].sent < 4 * 1024 * 1024
            size = 0
            while data := await exchange.read(10):
                offset = size % 256
                assert data[:256] == (bytes(range(256)) * 2)[offset : offset + 256][: len(data)]
                size += len(data)
            assert size == 512 * len(piece)

    run(scenario())


def _paused(pool: Pool) -> bool:
    return any(connection._paused for connection in pool._open)


async def _until_constant(value: Callable[[], int]) -> None:
    """Both sides run in this loop: what has not moved in many turns is waiting for somebody else."""
    last, turns = value(), 0
    while turns < 50:
        await asyncio.sleep(0.001)
        turns = turns + 1 if value() == last else 0
        last = value()

"""What a client gets of an upstream's answer, through real sockets and a sink that takes notes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from helpers.upstream import FakeUpstream, Peer, Script
from helpers.waiting import until

from cortex.net.address import Address
from cortex.net.errors import ConnectionLost, IdleTimeout
from cortex.net.pool import Exchange, Pool
from cortex.net.relay import TAIL_LIMIT_BYTES, EventTail, relay
from cortex.tasks import running

EVENTS = b'data: {"a":1}\n\n: comment\n\nevent: x\r\ndata: 2\r\n\r\ndata: [DONE]\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"
JSON = b'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nX-Id: 7\r\nContent-Length: 7\r\n\r\n{"a":1}'


class Client:
    """A sink that remembers. `pace`, if given, is waited for with every piece."""

    def __init__(self, pace: asyncio.Event | None = None) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.finished = False
        self._pace = pace

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def has(self, body: bytes) -> bool:
        return bool(self.status) and self.body == body

    async def start(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        assert not self.status
        self.status = status
        self.headers = dict(headers)

    async def send(self, data: bytes) -> None:
        assert self.status
        assert data
        self.pieces.append(data)
        if self._pace is not None:
            await self._pace.wait()

    async def finish(self) -> None:
        self.finished = True


class Notes:
    def __init__(self) -> None:
        self.seen = b""

    def piece(self, data: bytes) -> None:
        self.seen += data


@contextlib.asynccontextmanager
async def answering(*script: Any) -> AsyncIterator[Exchange]:
    steps: Script = [Peer.request, *script]
    async with (
        FakeUpstream(steps) as upstream,
        Pool() as pool,
        await pool.open(Address.parse(upstream.url), "POST", "/") as exchange,
    ):
        yield exchange


async def relayed(exchange: Exchange, client: Client, *, started: bool = False, notes: Notes | None = None) -> None:
    await relay(exchange, client, started=started, observer=notes, idle_timeout_s=10)


def test_a_plain_answer_passes_verbatim(run):
    """Status, headers, length and body are the upstream's; the observer sees the same bytes."""

    async def scenario() -> None:
        client, notes = Client(), Notes()
        async with answering(JSON) as exchange:
            await relayed(exchange, client, notes=notes)
        assert (client.status, client.body, client.finished) == (201, b'{"a":1}', True)
        assert client.headers == {"content-type": "application/json", "x-id": "7", "content-length": "7"}
        assert notes.seen == client.body

    run(scenario())


def test_a_stream_says_that_it_must_not_be_collected(run):
    """Proxies on the way are told to pass events at once; what the upstream said about it stays."""

    async def scenario() -> None:
        client, own = Client(), Client()
        async with answering(STREAM, EVENTS, Peer.close) as exchange:
            await relayed(exchange, client)
        assert client.headers == {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
        }
        async with answering(STREAM[:-2] + b"Cache-Control: no-store\r\nContent-Length: 2\r\n\r\n\n\n") as exchange:
            await relayed(exchange, own)
        assert own.headers["cache-control"] == "no-store"
        assert "content-length" not in own.headers

    run(scenario())


def test_a_started_sink_is_not_started_again(run):
    """After keep-alive comments the head is out; only events follow."""

    async def scenario() -> None:
        client = Client()
        await client.start(200, [])
        async with answering(STREAM, EVENTS, Peer.close) as exchange:
            await relayed(exchange, client, started=True)
        assert (client.body, client.finished) == (EVENTS, True)

    run(scenario())


def test_every_whole_event_is_passed_at_once(run):
    """Wherever the network pauses, the client has exactly the events that ended before, and in the end every byte."""

    async def scenario() -> None:
        for cut in range(1, len(EVENTS)):
            client, rest = Client(), asyncio.Event()
            whole = _whole(EVENTS[:cut])
            async with (
                answering(STREAM, EVENTS[:cut], rest, EVENTS[cut:], Peer.close) as exchange,
                running(relayed(exchange, client), name="relay") as passing,
            ):
                await until(functools.partial(client.has, whole))
                rest.set()
                await passing
            assert (client.body, client.finished) == (EVENTS, True)

    run(scenario())


def test_a_dying_upstream_leaves_whole_events(run):
    """Wherever it dies, no half event is out, the observer saw what the client saw, and the caller is told."""

    async def scenario() -> None:
        chunked = STREAM[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
        for cut in range(1, len(EVENTS)):
            client, notes = Client(), Notes()
            sent = b"%x\r\n%b" % (len(EVENTS), EVENTS[:cut])
            async with answering(chunked, sent, Peer.close) as exchange:
                with pytest.raises(ConnectionLost):
                    await relayed(exchange, client, notes=notes)
            assert client.body == notes.seen == _whole(EVENTS[:cut])
            assert not client.finished

    run(scenario())


def _whole(events: bytes) -> bytes:
    """The reference: everything up to the last event's end, found the slow way."""
    ends = [i for i in range(1, len(events) + 1) if events[:i].endswith((b"\n\n", b"\r\n\r\n"))]
    return events[: ends[-1]] if ends else b""


def test_a_stalled_stream_times_out(run):
    """Silence for the idle time-out is told to the caller; what had come is with the client."""

    async def scenario() -> None:
        client = Client()
        async with answering(STREAM, b"data: 1\n\ndata: 2") as exchange:
            with pytest.raises(IdleTimeout):
                await relay(exchange, client, started=False, observer=None, idle_timeout_s=0.05)
        assert client.body == b"data: 1\n\n"

    run(scenario())


def test_what_is_no_event_is_not_kept_for_ever(run):
    """An "event" beyond the limit is passed on in pieces, and nothing is lost."""

    async def scenario() -> None:
        client, rest = Client(), asyncio.Event()
        endless = b"x" * (TAIL_LIMIT_BYTES + 1)
        async with (
            answering(STREAM, endless, rest, b"y\n\nz", Peer.close) as exchange,
            running(relayed(exchange, client), name="relay") as passing,
        ):
            await until(lambda: client.body)
            rest.set()
            await passing
        assert client.body == endless + b"y\n\nz"

    run(scenario())


def test_three_pieces_are_cut_like_two():
    """Whatever was held before, after each piece exactly the whole events are out."""
    for first in range(1, len(EVENTS)):
        for second in range(first + 1, len(EVENTS)):
            tail, out = EventTail(), b""
            for begin, end in ((0, first), (first, second), (second, len(EVENTS))):
                out += tail.push(EVENTS[begin:end])
                assert out == _whole(EVENTS[:end])


def test_an_event_that_ends_across_the_limit_is_seen_to_end():
    """Its first half was passed on for its length; the line end that closes it closes it."""
    tail = EventTail()
    assert tail.push(b"x" * TAIL_LIMIT_BYTES + b"\n") == b"x" * TAIL_LIMIT_BYTES + b"\n"
    assert tail.push(b"\n") == b"\n"
    assert tail.push(b"data: 1") == b""
    assert tail.rest() == b"data: 1"


def test_a_compressed_stream_is_a_body_like_any_other(run):
    """Events cannot be seen in it, so nothing is held back."""

    async def scenario() -> None:
        client, rest = Client(), asyncio.Event()
        head = STREAM[:-2] + b"Content-Encoding: gzip\r\n\r\n"
        async with (
            answering(head, b"\x1f\x8b", rest, Peer.close) as exchange,
            running(relayed(exchange, client), name="relay") as passing,
        ):
            await until(lambda: client.body == b"\x1f\x8b")
            rest.set()
            await passing

    run(scenario())


def test_a_slow_client_slows_the_reading(run):
    """While the client takes nothing, one piece is on its way to it and the rest is not read."""

    async def scenario() -> None:
        pace = asyncio.Event()
        client = Client(pace)
        pieces = [b"x" * 65536] * 64
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (65536 * 64)
        async with answering(head, *pieces) as exchange, running(relayed(exchange, client), name="relay") as passing:
            await until(lambda: exchange._connection is not None and exchange._connection._paused)
            assert len(client.pieces) == 1
            pace.set()
            await passing
        assert client.body == b"".join(pieces)

    run(scenario())

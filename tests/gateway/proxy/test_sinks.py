"""Answers on their way into another dialect: what a silence brings, and how a bad end stops the model."""

import asyncio

import pytest
from helpers.fake_neuron import chunk

from cortex import errors
from cortex.errors import CortexError
from cortex.gateway.proxy.sinks import WHOLE_LIMIT_BYTES, Collector, ServerSentEvents, TranslatingSink
from cortex.wire.errors import openai_event

WAITING = b": loading org/m\n\n"
EVENT = b"data: {}\n\n"
MORE = chunk({"content": "more"})


class Client:
    """A client's connection that remembers."""

    def __init__(self):
        self.status = None
        self.headers = []
        self.got = []
        self.finished = False

    async def start(self, status, headers):
        self.status, self.headers = status, headers

    async def send(self, data):
        self.got.append(data)

    async def finish(self):
        self.finished = True

    def abort(self, error):
        raise AssertionError(error)


class Dialect(ServerSentEvents):
    """Says what it was asked."""

    def __init__(self):
        self.over = False
        self.error = None
        self.said = b"said "

    def opened(self):
        return b"opened "

    async def begin(self, events):
        assert events == EVENT

    def push(self, events):
        assert events == EVENT
        return self.said

    def silence(self):
        return b"alive "

    def end(self):
        return b"end"


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def scenario(work):
    client, dialect, clock = Client(), Dialect(), Clock()
    sink = TranslatingSink(client, dialect, headers=[("request-id", "r")], clock=clock)
    asyncio.run(work(sink, client, dialect, clock))


def test_a_stream_is_opened_with_headers_of_its_own():
    """The head is an event stream's, with what the gateway says of itself, and nothing of the neuron's form."""

    async def work(sink, client, _dialect, _clock):
        await sink.start(200, [("content-type", "x/y"), ("content-length", "3"), ("x-cortex-node", "a")])
        headers = dict(client.headers)
        assert headers["content-type"].startswith("text/event-stream")
        assert (headers["x-cortex-node"], headers["request-id"]) == ("a", "r")
        assert "content-length" not in headers
        assert client.got == [b"opened "]

    scenario(work)


def test_a_silence_brings_a_comment_each_second_and_an_event_after_ten():
    """Upstream comments are the clock; what is told resets it, and a push that says nothing is a silence as well."""

    async def work(sink, client, dialect, clock):
        await sink.start(200, [])
        client.got.clear()
        for _ in range(21):
            clock.now += 1
            await sink.send(WAITING)
        assert client.got == [*[b": \n\n"] * 9, b"alive ", *[b": \n\n"] * 9, b"alive ", b": \n\n"]
        client.got.clear()
        await sink.send(EVENT)
        dialect.said = b""
        for _ in range(10):
            clock.now += 1
            await sink.send(EVENT)
        assert client.got == [b"said ", *[b": \n\n"] * 9, b"alive "]

    scenario(work)


def test_a_model_that_goes_on_after_a_bad_end_is_stopped():
    """What it says behind an error raises that, so that the dispatcher lets go; whose own last event is swallowed."""

    async def work(sink, client, dialect, _clock):
        await sink.start(200, [])
        await sink.send(EVENT)
        dialect.over, dialect.error = True, errors.upstream_failed("nonsense")
        with pytest.raises(CortexError, match="nonsense"):
            await sink.send(MORE)
        count = len(client.got)
        await sink.send(openai_event(dialect.error))
        await sink.send(WAITING)
        assert len(client.got) == count

    scenario(work)


def test_what_follows_a_good_end_is_swallowed():
    """`[DONE]` and late comments mean nothing in another dialect."""

    async def work(sink, client, dialect, clock):
        await sink.start(200, [])
        dialect.over = True
        clock.now += 60
        await sink.send(WAITING)
        await sink.send(EVENT)
        assert client.got == [b"opened "]
        await sink.finish()
        assert client.finished

    scenario(work)


def test_a_whole_answer_is_bounded_and_must_be_whole():
    """Too much, a broken connection and what is no JSON are the neuron's failures; nothing has been sent then."""

    async def collect(*pieces, broken=False):
        collector = Collector()
        await collector.start(200, [("x-cortex-node", "a"), ("content-type", "application/json")])
        for piece in pieces:
            await collector.send(piece)
        if broken:
            collector.abort(ConnectionError())
        assert (collector.status, collector.headers) == (None, {"x-cortex-node": "a"})
        return collector.answer()

    assert asyncio.run(collect(b'{"a"', b": 1}")) == {"a": 1}
    for pieces, broken in (([b"{"], False), ([b"{}"], True), ([bytes(WHOLE_LIMIT_BYTES), b"x"], False)):
        with pytest.raises(CortexError) as failed:
            asyncio.run(collect(*pieces, broken=broken))
        assert failed.value.status == 502

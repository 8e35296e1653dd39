"""Whatever a neuron does wrong: before the first byte another one answers, after it the client gets a well-formed end.

The misbehaving inference endpoint is apart from our own server code; its control plane is right, unless the test says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from helpers.fake_neuron import CHAT_ANSWER, STREAM_EVENTS, FakeNeuron, answer, hang, hold_at
from helpers.gateways import Client, eventually, gateway
from helpers.upstream import FakeUpstream, Peer, Script
from helpers.waiting import until

from cortex.tasks import Tasks, running

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = b"".join(STREAM_EVENTS)
IDLE_S = 0.5


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def silence(_peer: Peer) -> None:
    await asyncio.Event().wait()


BEFORE: dict[str, Script] = {
    "closes at once": [Peer.close],
    "resets at once": [Peer.request, Peer.reset],
    "resets mid-header": [Peer.request, b"HTTP/1.1 200 OK\r\ncontent-ty", Peer.reset],
    "closes mid-header": [Peer.request, b"HTTP/1.1 200 OK\r\ncontent-ty", Peer.close],
    "speaks another protocol": [Peer.request, b"SSH-2.0-OpenSSH_9.9\r\n"],
    "sends noise": [Peer.request, bytes(range(256)) * 16],
    "sends an endless head": [Peer.request, b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 200_000],
    "promises a coding nobody asked for": [Peer.request, b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n"],
}
AFTER: dict[str, Script] = {
    "resets": [Peer.reset],
    "closes": [Peer.close],
    "sends garbage for a chunk": [b"zz\r\nnonsense\r\n"],
    "lies about a chunk's length": [b"5\r\nmore than five\r\n"],
    "ends in the middle of an event": [chunked(STREAM_EVENTS[3][:20]), Peer.close],
    "stalls": [silence],
    "stalls in the middle of an event": [chunked(STREAM_EVENTS[3][:20]), silence],
}


@contextlib.asynccontextmanager
async def faulty(*scripts: Script, others: int = 0, **settings: Any) -> AsyncIterator[tuple[Client, FakeUpstream]]:
    """A gateway before a neuron whose inference plays scripts, and before others that are well."""
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(FakeUpstream(*scripts))
        bad = await stack.enter_async_context(FakeNeuron("a", {"org/m": "loaded"}))
        bad.inference_url = upstream.url
        good = [
            await stack.enter_async_context(FakeNeuron(f"b{number}", {"org/m": "loaded"})) for number in range(others)
        ]
        client = await stack.enter_async_context(gateway([bad, *good], idle_timeout_secs=IDLE_S, **settings))
        yield client, upstream


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", BEFORE)
def test_before_the_first_byte_another_neuron_answers(fault, stream):
    """The client notices nothing."""

    async def scenario():
        async with faulty(BEFORE[fault], others=1) as (client, upstream):
            told = await client.chat(stream=stream)
            assert (told.status_code, told.headers["x-cortex-node"]) == (200, "b0")
            assert told.content == (WHOLE if stream else CHAT_ANSWER)
            assert upstream.peers

    asyncio.run(scenario())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", BEFORE)
def test_before_the_first_byte_and_alone_it_is_an_error_with_a_status(fault, stream):
    """502 with Retry-After in the client's format, without a word about addresses."""

    async def scenario():
        async with faulty(BEFORE[fault]) as (client, _):
            told = await client.chat(stream=stream)
            assert (told.status_code, told.json()["error"]["code"]) == (502, "upstream_connection_error")
            assert "retry-after" in told.headers
            assert "127.0.0.1" not in told.text

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", AFTER)
def test_after_the_first_byte_a_stream_ends_with_an_error_event(fault):
    """Whole events, then one error event, then a regular end; nothing is sent to another neuron a second time."""
    script = [Peer.request, HEAD, chunked(b"".join(STREAM_EVENTS[:3])), *AFTER[fault]]

    async def scenario():
        async with faulty(script, others=1) as (client, _):
            told = await client.chat(stream=True)
            *events, last, rest = told.content.split(b"\n\n")
            assert (told.status_code, rest) == (200, b"")
            assert [event + b"\n\n" for event in events] == list(STREAM_EVENTS[:3])
            code = orjson.loads(last.removeprefix(b"data: "))["error"]["code"]
            assert code == ("upstream_timeout" if "stalls" in fault else "upstream_connection_error")
            assert (await client.node("b0"))["models"][0].get("in_flight") is None
            assert await client.metric('cortex_request_errors_total{model="org/m",node="a"}') == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", ["resets", "closes", "stalls"])
def test_after_the_first_byte_a_body_is_visibly_cut(fault):
    """What is no stream has no place for an error event: the connection breaks, and nobody takes it for whole."""
    begun = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 200\r\n\r\n" + CHAT_ANSWER[:40]

    async def scenario():
        async with faulty([Peer.request, begun, *AFTER[fault]]) as (client, _):
            with pytest.raises(httpx.RemoteProtocolError):
                await client.chat()

    asyncio.run(scenario())


def test_a_neuron_that_accepts_and_never_answers_is_given_up_in_time():
    """A stream hears nothing for the idle time-out: 504, and it is not tried elsewhere, where it might be the request's fault as well."""

    async def scenario():
        async with faulty([Peer.request], others=1) as (client, upstream):
            told = await client.chat(stream=True)
            assert (told.status_code, told.json()["error"]["code"]) == (504, "upstream_timeout")
            assert [asked.line.split()[0] for asked in upstream.requests].count("POST") == 1
            assert not (await client.node("b0"))["models"][0].get("in_flight")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "url",
    ["http://localhost:1", "http://nowhere.invalid:80", "http://256.256.256.256:80"],
    ids=["nobody listens", "no such host", "no address"],
)
@pytest.mark.parametrize("others", [0, 1])
def test_a_neuron_that_lies_about_its_endpoint_serves_nobody(url, others):
    """The other one answers, or it is a 502; the neuron's control plane being well helps it nothing."""

    async def scenario():
        async with contextlib.AsyncExitStack() as stack:
            liar = await stack.enter_async_context(FakeNeuron("a", {"org/m": "loaded"}))
            liar.inference_url = url
            good = [
                await stack.enter_async_context(FakeNeuron(f"b{number}", {"org/m": "loaded"}))
                for number in range(others)
            ]
            client = await stack.enter_async_context(gateway([liar, *good]))
            for _ in range(5):
                assert (await client.chat()).status_code in ((200,) if others else (502, 503))

    asyncio.run(scenario())


def test_a_neuron_that_points_at_one_without_the_model_gets_no_wrong_answer():
    """Its endpoint is another neuron's, which says that it has no such model: nobody else's model answers instead."""

    async def scenario():
        async with FakeNeuron("other", {"org/x": "loaded"}) as other, FakeNeuron("a", {"org/m": "loaded"}) as liar:
            liar.inference_url = other.endpoint
            async with gateway([liar]) as client:
                told = await client.chat()
                assert told.status_code in (404, 502, 503)
                assert b"Paris" not in told.content
                assert all(sent.json["model"] == "org/m" for sent in other.sent)

    asyncio.run(scenario())


@pytest.mark.parametrize("others", [0, 1])
def test_a_neuron_that_denies_the_model_it_lists_makes_no_404(others):
    """The model exists: it is served elsewhere, or it is worth another try."""

    async def scenario():
        async with contextlib.AsyncExitStack() as stack:
            denying = await stack.enter_async_context(FakeNeuron("a", {"org/m": "loaded"}))
            denying.chat = answer(404, b'{"error":{"message":"no such model","code":"model_not_found"}}')
            good = [
                await stack.enter_async_context(FakeNeuron(f"b{number}", {"org/m": "loaded"}))
                for number in range(others)
            ]
            client = await stack.enter_async_context(gateway([denying, *good]))
            told = await client.chat()
            assert told.status_code == (200 if others else 503)
            assert others or "retry-after" in told.headers

    asyncio.run(scenario())


def test_a_neuron_that_comes_back_with_other_models_is_known_for_those():
    """A stream is cut with an error event, the old model is loaded elsewhere, the new one is served."""

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as a,
            FakeNeuron("b", {"org/m": "unloaded"}) as b,
            gateway([a, b], poll_interval_secs=0.1) as client,
        ):
            a.step, got = hold_at(2), bytearray()
            async with running(client.read_into(got), name="stream") as stream:
                await until(lambda: STREAM_EVENTS[1] in got)
                await a.stop()
                a.step, a.models = None, {"org/new": {"id": "org/new", "status": "loaded"}}
                await stream
                assert b'"code":"upstream_connection_error"' in got
            assert (await client.chat()).headers["x-cortex-node"] == "b"
            await a.start()

            async def new_one():
                return (await client.chat("org/new")).status_code == 200

            await eventually(new_one)
            assert (await client.chat()).headers["x-cortex-node"] == "b"
            assert len(b.loads) == 1

    asyncio.run(scenario())


def test_a_neuron_that_disappears_takes_only_its_own_streams_with_it():
    """Those of the other one go on, also where both were asked at once; each ends once, and well."""

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as a,
            FakeNeuron("b", {"org/m": "loaded"}) as b,
            gateway([a, b]) as client,
        ):
            gate, tasks = asyncio.Event(), Tasks("test")
            a.step = b.step = hold_at(2, gate)
            texts = [bytearray() for _ in range(10)]
            streams = [tasks.start(f"s{number}", client.read_into(text)) for number, text in enumerate(texts)]
            await until(lambda: all(STREAM_EVENTS[1] in text for text in texts))
            assert (len(a.sent), len(b.sent)) == (5, 5)
            await a.stop()
            gate.set()
            await asyncio.wait(streams)
            assert sorted(text.count(b"[DONE]") for text in texts) == [0] * 5 + [1] * 5
            assert sorted(text.count(b'"error"') for text in texts) == [0] * 5 + [1] * 5
            assert list(client.handle.reconfiguration._membership._fleet.in_flight) == []

    asyncio.run(scenario())


def test_a_gateway_restart_forgets_nothing_that_matters():
    """A load goes on without it, the next gateway's requests join it, and what is loaded is served at once."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded", "org/cold": "unloaded"}) as a:
            a.load_gate.clear()
            tasks = Tasks("test")
            async with gateway([a]) as first:
                tasks.start("first", first.chat("org/cold", stream=True))
                await until(lambda: a.loads)
            async with gateway([a]) as second:
                assert (await second.chat()).status_code == 200
                waiting = tasks.start("second", second.chat("org/cold"))

                async def followed():
                    return any(path.startswith("/jobs/") for path in a.asked)

                await eventually(followed)
                a.load_gate.set()
                assert (await waiting).status_code == 200
            assert len(a.loads) == 1
            await tasks.aclose()

    asyncio.run(scenario())


def test_a_neuron_whose_polls_hang_delays_nobody_else():
    """One task for each neuron: /status and the others' requests are as quick as ever."""

    async def scenario():
        async with FakeNeuron("a") as a, FakeNeuron("b", {"org/m": "loaded"}) as b:
            a.control = hang
            async with gateway([a, b]) as client:
                assert (await client.chat()).headers["x-cortex-node"] == "b"
                assert (await client.node("a"))["healthy"] is False
                assert (await client.node("b"))["healthy"] is True

    asyncio.run(scenario())

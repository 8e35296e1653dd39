"""Before the first byte a request fails over; after it, the client is told in its own format."""

import asyncio
import contextlib

import httpx
import orjson
import pytest
from helpers.fake_neuron import CHAT_ANSWER, STREAM_EVENTS, FakeNeuron, answer, cut_after, hang, hold_at, reset
from helpers.gateways import eventually, gateway
from helpers.upstream import FakeUpstream, Peer

from cortex.tasks import Tasks

BUSY = b'{"error":{"message":"the queue is full","code":"rate_limit_exceeded"}}'
DOWN = b'{"error":{"message":"going down","code":"shutting_down"}}'


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "failure",
    [
        reset,
        answer(503, BUSY, retry_after="2"),
        answer(429, BUSY, retry_after="2"),
        answer(503, DOWN, retry_after="15"),
        None,
    ],
    ids=["reset", "busy", "busy with 429", "shutting down", "refused"],
)
def test_a_failure_before_the_first_byte_is_invisible(failure, stream):
    """Another replica answers, whatever the first one did."""

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as first,
            FakeNeuron("b", {"org/m": "loaded"}) as second,
            gateway([first, second]) as client,
        ):
            first.chat = failure
            if failure is None:
                await first.stop()
            response = await client.chat(stream=stream)
            assert (response.status_code, response.headers["x-cortex-node"]) == (200, "b")
            assert response.content == (b"".join(STREAM_EVENTS) if stream else CHAT_ANSWER)
            assert len(second.sent) == 1

    asyncio.run(scenario())


def test_without_another_replica_a_dead_neuron_is_502():
    """A clear error with Retry-After, and nothing of the inside in it."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded"}) as only, gateway([only]) as client:
            only.chat = reset
            response = await client.chat()
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (502, "upstream_connection_error")
            assert "retry-after" in response.headers
            assert "127.0.0.1" not in error["message"]
            assert len(only.sent) == 1

    asyncio.run(scenario())


def test_a_request_tries_no_more_than_three_replicas():
    """A request that kills what serves it must not go through the whole fleet."""

    async def scenario():
        async with contextlib.AsyncExitStack() as stack:
            neurons = [
                await stack.enter_async_context(FakeNeuron(f"n{number}", {"org/m": "loaded"})) for number in range(5)
            ]
            client = await stack.enter_async_context(gateway(neurons))
            for neuron in neurons:
                neuron.chat = reset
            assert (await client.chat()).status_code == 502
            assert sum(len(neuron.sent) for neuron in neurons) == 3


def test_an_upstream_that_speaks_no_http_is_502():
    """What answers on the reported port is believed in nothing."""

    async def scenario():
        async with (
            FakeUpstream([Peer.request, b"SSH-2.0-OpenSSH_9.9\r\n"]) as stranger,
            FakeNeuron("a", {"org/m": "loaded"}) as only,
        ):
            only.inference_url = stranger.url
            async with gateway([only]) as client:
                response = await client.chat()
                assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_connection_error")

    asyncio.run(scenario())

    asyncio.run(scenario())


def test_a_model_that_was_unloaded_meanwhile_is_loaded_again():
    """The gateway's view was stale: the neuron's 404 becomes a cold load, not the client's error."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded"}) as only, gateway([only]) as client:
            only.models["org/m"]["status"] = "unloaded"
            response = await client.chat()
            assert (response.status_code, response.content) == (200, CHAT_ANSWER)
            assert len(only.loads) == 1

    asyncio.run(scenario())


def test_a_model_that_recovers_is_waited_for():
    """A 503 of a neuron whose engine is coming back makes the request wait for it."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded"}) as only, gateway([only]) as client:
            only.models["org/m"]["status"] = "recovering"

            async def recovering(request):
                only.chat = None
                return await answer(503, b'{"error":{"message":"recovering","code":"service_unavailable"}}')(request)

            only.chat = recovering
            running = Tasks("test").start("chat", client.chat())

            async def seen():
                return (await client.node("a"))["models"][0]["status"] == "recovering"

            await eventually(seen)
            only.models["org/m"]["status"] = "loaded"
            assert (await running).status_code == 200
            assert only.loads == []

    asyncio.run(scenario())


def test_a_404_that_is_not_about_the_model_is_passed_on():
    """A neuron without that endpoint is not asked again."""
    body = b'{"error":{"message":"there is no POST /v1/rerank","code":"not_found"}}'

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded"}) as only, gateway([only]) as client:
            only.chat = answer(404, body)
            response = await client.post("/v1/rerank", json={"model": "org/m"})
            assert (response.status_code, response.content) == (404, body)
            assert len(only.sent) == 1

    asyncio.run(scenario())


WHOLE = b"".join(STREAM_EVENTS)


@pytest.mark.parametrize("cut", range(1, len(WHOLE), 37))
def test_a_stream_is_well_formed_wherever_its_neuron_dies(cut):
    """The client has whole events only, then one error event, then a clean end."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded"}) as only, gateway([only]) as client:
            only.chat = cut_after(WHOLE[:cut])
            response = await client.chat(stream=True)
            assert response.status_code == 200
            *events, last, rest = response.content.split(b"\n\n")
            assert rest == b""
            assert [event + b"\n\n" for event in events] == list(STREAM_EVENTS[: len(events)])
            assert last.startswith(b"data: {")
            assert orjson.loads(last[6:])["error"]["code"] == "upstream_connection_error"

    asyncio.run(scenario())


def test_an_answer_that_is_no_stream_is_visibly_cut():
    """Half a JSON body never looks whole: the connection breaks, as the neuron's did."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded"}) as only, gateway([only]) as client:
            only.chat = cut_after(CHAT_ANSWER[:40], "application/json")
            with pytest.raises(httpx.RemoteProtocolError):
                await client.chat()
            only.chat = None
            assert (await client.chat()).status_code == 200

    asyncio.run(scenario())


def test_a_stream_that_stalls_ends_with_an_error_event():
    """The time-out is for silence; what came is kept."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded"}) as only, gateway([only], idle_timeout_secs=0.2) as client:
            only.step = hold_at(2)
            text = await client.stream_text()
            assert text.encode().startswith(b"".join(STREAM_EVENTS[:2]))
            assert '"code":"upstream_timeout"' in text

    asyncio.run(scenario())


def test_a_stream_that_never_begins_is_504():
    """Nothing was sent yet, so the status tells; it is not tried elsewhere, where it might stall as well."""

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as first,
            FakeNeuron("b", {"org/m": "loaded"}) as second,
            gateway([first, second], idle_timeout_secs=0.2) as client,
        ):
            first.chat = hang
            response = await client.chat(stream=True)
            assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")
            assert second.sent == []

    asyncio.run(scenario())

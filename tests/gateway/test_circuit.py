"""A neuron that fails its requests is let alone until it answers again, and its models are placed elsewhere."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from helpers.fake_neuron import CHAT_ANSWER, FakeNeuron, answer, hang, reset
from helpers.gateways import Client, eventually, gateway
from helpers.waiting import until

from cortex.gateway.fleet.breaker import FAILURES
from cortex.tasks import running


async def cut_off(client: Client, name: str = "a") -> bool:
    return bool((await client.node(name))["cut_off"])


def test_three_failures_in_a_row_and_a_neuron_is_let_alone(caplog):
    """The clients notice nothing; no further request is tried there while its probes fail, and it serves again when they do not."""

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as a,
            FakeNeuron("b", {"org/m": "loaded"}) as b,
            gateway([a, b]) as client,
        ):
            a.chat, a.instead["/health"] = reset, reset
            for _ in range(10):
                assert (await client.chat()).headers["x-cortex-node"] == "b"
            assert (len(a.sent), len(b.sent)) == (FAILURES, 10)
            assert await cut_off(client)
            probes = a.asked.count("/health")
            await until(lambda: a.asked.count("/health") >= probes + 2)
            assert (await client.chat()).headers["x-cortex-node"] == "b"
            a.chat = None
            a.instead.clear()

            async def serves():
                return (await client.chat()).headers["x-cortex-node"] == "a"

            await eventually(serves)
            assert not await cut_off(client)
        assert "neuron 'a' gets no requests until a probe is answered" in caplog.text

    asyncio.run(scenario())


def test_an_answered_probe_does_not_make_three_more_requests_fail():
    """Its health is well and its inference is not: one request finds out, and it is let alone for longer."""

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as a,
            FakeNeuron("b", {"org/m": "loaded"}) as b,
            gateway([a, b]) as client,
        ):
            a.chat = reset
            for _ in range(FAILURES):
                await client.chat()

            async def let_in():
                return not await cut_off(client)

            await eventually(let_in)
            for _ in range(5):
                assert (await client.chat()).status_code == 200
            # One request, which is sent twice: the probe's connection had rested, and might have been stale.
            assert len(a.sent) == FAILURES + 2
            assert len(b.sent) == FAILURES + 5

    asyncio.run(scenario())


def test_with_nowhere_else_to_go_the_answer_comes_at_once():
    """The only replica is cut off: 503 with Retry-After, and nothing is sent there."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded"}) as a, gateway([a]) as client:
            a.chat, a.instead["/health"] = reset, reset
            assert [(await client.chat()).status_code for _ in range(FAILURES)] == [502] * FAILURES
            refused = await client.chat()
            assert (refused.status_code, len(a.sent)) == (503, FAILURES)
            assert "retry-after" in refused.headers

    asyncio.run(scenario())


def test_errors_that_a_neuron_tells_open_no_circuit():
    """An answer is an answer: a model that fails is no broken neuron."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded"}) as a, gateway([a]) as client:
            a.chat = answer(500, b'{"error":{"message":"no","code":"internal_server_error"}}')
            assert [(await client.chat()).status_code for _ in range(8)] == [500] * 8
            assert not await cut_off(client)

    asyncio.run(scenario())


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_of_a_neuron_that_is_gone_is_loaded_at_the_next_place(stream):
    """Nobody else has it loaded: before the first byte that is a cold load elsewhere, not an error."""

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as a,
            FakeNeuron("b", {"org/m": "unloaded"}) as b,
            gateway([a, b]) as client,
        ):
            await a.stop()
            told = await client.chat(stream=stream)
            assert (told.status_code, told.headers["x-cortex-node"]) == (200, "b")
            assert len(b.loads) == 1

    asyncio.run(scenario())


def test_who_waits_for_a_neuron_that_goes_silent_is_served_elsewhere():
    """It accepted a request, and then neither answers nor is heard of: when it counts as down, the request goes on."""

    async def scenario():
        async with contextlib.AsyncExitStack() as stack:
            a = await stack.enter_async_context(FakeNeuron("a", {"org/m": "loaded"}))
            b = await stack.enter_async_context(FakeNeuron("b", {"org/m": "loaded"}))
            client = await stack.enter_async_context(gateway([a, b], poll_interval_secs=0.1, poll_timeout_secs=0.1))
            a.chat = hang
            async with running(client.chat(), name="chat") as asking:
                await until(lambda: a.sent)
                a.control = hang
                told = await asking
            assert (told.headers["x-cortex-node"], told.content) == ("b", CHAT_ANSWER)

    asyncio.run(scenario())

"""A neuron that fails its requests is let alone until it answers again, and its models are placed elsewhere."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from helpers.fake_neuron import CHAT_ANSWER, FakeNeuron, answer, hang, reset
from helpers.gateways import Client, eventually, gateway
from helpers.waiting import until

from cortex.gateway.fleet.breaker import FAILURES, Circuit
from cortex.tasks import running


async def cut_off(client: Client, name: str = "a") -> bool:
    return bool((await client.node(name))["cut_off"])


def test_a_failure_is_looked_into_and_a_neuron_that_is_gone_is_let_alone(caplog):
    """The clients notice nothing; one request finds out, none is tried there while probes fail, and it serves again when they do not."""

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as a,
            FakeNeuron("b", {"org/m": "loaded"}) as b,
            gateway([a, b]) as client,
        ):
            a.chat, a.instead["/health"] = reset, reset
            for _ in range(10):
                assert (await client.chat()).headers["x-cortex-node"] == "b"
            assert (len(a.sent), len(b.sent)) == (1, 10)
            await eventually(lambda: cut_off(client))
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


def test_three_failures_in_a_row_are_enough_whatever_its_health_says():
    """What fails again and again while probes are answered is cut off as well, and told."""

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as a,
            FakeNeuron("b", {"org/m": "loaded"}) as b,
            gateway([a, b]) as client,
        ):
            a.chat = reset

            async def cut_off_after_another_request():
                assert (await client.chat()).headers["x-cortex-node"] == "b"
                return await cut_off(client)

            await eventually(cut_off_after_another_request)
            assert len(a.sent) >= FAILURES  # more where the connection of a probe had rested, and might have been stale
            assert await client.metric('cortex_neuron_breaker_state{node="a"}') == Circuit.open
            assert await client.metric('cortex_neuron_breaker_state{node="b"}') == Circuit.closed

    asyncio.run(scenario())


def test_a_neuron_under_suspicion_serves_only_where_nobody_else_does(monkeypatch):
    """Its probe is on its way: requests of a model that others have go to them, the others' come through."""
    monkeypatch.setattr("cortex.gateway.fleet.breakers.PROBE_S", 60.0)

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded", "org/own": "loaded"}) as a,
            FakeNeuron("b", {"org/m": "loaded"}) as b,
            gateway([a, b], poll_interval_secs=60) as client,
        ):
            gate = asyncio.Event()

            async def held(request):
                await gate.wait()
                return await a._health(request)

            a.chat, a.instead["/health"] = reset, held
            await client.chat()
            assert (await client.node("a"))["circuit"] == "suspected"
            a.chat = None
            assert [(await client.chat()).headers["x-cortex-node"] for _ in range(5)] == ["b"] * 5
            assert (await client.chat("org/own")).headers["x-cortex-node"] == "a"
            gate.set()

            async def serves():
                return (await client.chat()).headers["x-cortex-node"] == "a"

            await eventually(serves)

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

            async def cut_off_after_another_request():
                await client.chat()
                return await cut_off(client)

            async def let_in():
                return (await client.node("a"))["circuit"] == "half_open"

            await eventually(cut_off_after_another_request)
            await eventually(let_in)
            before = len(a.sent)
            for _ in range(5):
                assert (await client.chat()).status_code == 200
            # One request, which is sent twice: the probe's connection had rested, and might have been stale.
            assert len(a.sent) == before + 2

    asyncio.run(scenario())


def test_with_nowhere_else_to_go_the_answer_comes_at_once():
    """The only replica is cut off: 503 with Retry-After, and nothing is sent there."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded"}) as a, gateway([a]) as client:
            a.chat, a.instead["/health"] = reset, reset
            assert (await client.chat()).status_code in (
                502,
                503,
            )  # of its own failure, or of the probe's that it caused
            await eventually(lambda: cut_off(client))
            before, refused = len(a.sent), await client.chat()
            assert (refused.status_code, len(a.sent)) == (503, before)
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


def test_who_failed_at_a_neuron_that_is_gone_waits_for_no_poll(monkeypatch):
    """The look at it has found that out: a poll that hangs would only take longer to say the same."""
    monkeypatch.setattr("cortex.gateway.fleet.breakers.PROBE_S", 0.2)

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as a,
            FakeNeuron("b", {"org/m": "unloaded"}) as b,
            gateway([a, b], poll_timeout_secs=600) as client,
        ):
            a.chat, a.control = reset, hang
            told = await client.chat()
            assert (told.status_code, told.headers["x-cortex-node"]) == (200, "b")

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

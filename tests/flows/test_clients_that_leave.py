"""A client that leaves stops its generation: streamed or not, in prefill or in mid-answer, alone or beside another stream."""

import asyncio
import contextlib
import json

import pytest
from helpers.gateways import eventually
from helpers.live import DEMO, DEMO_MODEL, ENDLESS_MODEL, SCRIPTED, endless, running_neuron
from helpers.waiting import until

from cortex.net.address import Address
from cortex.net.pool import Pool
from cortex.tasks import running

pytestmark = pytest.mark.model
CHAT = "/v1/chat/completions"
SOON_S = 15  # what is left behind would take twice as long on a quick machine
WORDS = " ".join(f"word{number}" for number in range(1300))  # half a minute of prefill for the demo model


@contextlib.asynccontextmanager
async def _serving(models_dir, folder, model, slots):
    """A neuron with `model` in so many slots, and a question: how many of them are at work, by the engine's own word."""
    async with running_neuron(models_dir, runtime_dir=str(folder)) as neuron, Pool(keepalive=False) as pool:
        await neuron.load({**model, "parallel": slots, "max_in_flight": slots})
        (socket,) = folder.glob("*/engine-*.sock")

        async def at_work():
            async with await pool.open(Address("localhost", 0, str(socket)), "GET", "/slots") as told:
                return sum(slot["is_processing"] for slot in json.loads(await told.read_all(1 << 20)))

        yield neuron, at_work


def _long_prompt(*, stream):
    text = {"role": "user", "content": WORDS}
    return {"model": DEMO, "messages": [text], "max_tokens": 4, "stream": stream}


def _long_answer():
    text = {"role": "user", "content": "Tell me a long story."}
    return {"model": DEMO, "messages": [text], "max_tokens": 6000, "stream": True, "ignore_eos": True}


async def _read(neuron, body, got):
    async with neuron.http.stream("POST", CHAT, json=body) as stream:
        async for piece in stream.aiter_bytes():
            got.extend(piece)


@contextlib.asynccontextmanager
async def _client(neuron, at_work, body, *, beside=0):
    """A client that leaves at the end of the block; in it, the engine works for it, beside so many others."""
    got = bytearray()
    async with running(_read(neuron, body, got), name="client"):
        if body["stream"]:
            await until(lambda: got, within_s=30)
        await eventually(lambda: _is(at_work, beside + 1))
        yield
        assert b"[DONE]" not in got


async def _is(count, expected):
    return await count() == expected


async def _left_alone(neuron, at_work, body, ask):
    """Of a model's only slot: whoever comes next is served at once, and nothing goes on behind it."""
    for stream in (True, False):
        async with _client(neuron, at_work, body(stream=stream)):
            pass
        async with asyncio.timeout(SOON_S):
            assert (await ask()).status_code == 200
            await eventually(lambda: _is(at_work, 0))


async def _left_beside(neuron, at_work, body, beside, ask):
    """Of two slots, while the other one streams: the next one needs the slot of who left, and the other one never stops."""
    for stream in (True, False):
        await _one_left_beside(neuron, at_work, body(stream=stream), beside, ask)


async def _one_left_beside(neuron, at_work, body, beside, ask):
    other = bytearray()

    def tokens():
        return other.count(b'"content":"') - 1  # the role's is empty

    async with running(_read(neuron, beside, other), name="beside") as task:
        await until(lambda: tokens() > 0, within_s=30)
        async with _client(neuron, at_work, body, beside=1):
            pass
        async with asyncio.timeout(SOON_S):
            assert (await ask()).status_code == 200
        before = tokens()
        await until(lambda: tokens() > before, within_s=SOON_S)
        assert not task.done()
    await eventually(lambda: _is(at_work, 0))


@pytest.mark.parametrize("beside", [False, True])
def test_in_mid_answer(models_dir, socket_dir, beside):
    """A hundred thousand tokens were to come."""

    async def scenario():
        async with _serving(models_dir, socket_dir, ENDLESS_MODEL, 2 if beside else 1) as (neuron, at_work):

            async def ask():
                return await neuron.chat(SCRIPTED, "hi")

            if beside:
                await _left_beside(neuron, at_work, endless, endless(), ask)
            else:
                await _left_alone(neuron, at_work, endless, ask)

    asyncio.run(scenario())


@pytest.mark.parametrize("beside", [False, True])
def test_in_prefill(models_dir, socket_dir, beside):
    """Thousands of tokens of its prompt were still to be read."""

    async def scenario():
        model = {**DEMO_MODEL, "context": 8192}
        async with _serving(models_dir, socket_dir, model, 2 if beside else 1) as (neuron, at_work):

            async def ask():
                return await neuron.chat(DEMO, "hi", max_tokens=2)

            if beside:
                await _left_beside(neuron, at_work, _long_prompt, _long_answer(), ask)
            else:
                await _left_alone(neuron, at_work, _long_prompt, ask)

    asyncio.run(scenario())

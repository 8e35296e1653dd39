"""A client that leaves stops its generation: streamed or not, in prefill or in mid-answer, alone or beside another stream."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
from helpers.live import DEMO, DEMO_MODEL, SCRIPTED, SCRIPTED_MODEL, running_neuron
from helpers.processes import only_child
from helpers.waiting import until

from cortex.tasks import running

pytestmark = pytest.mark.model
CHAT = "/v1/chat/completions"
WORDS = " ".join(f"word{number}" for number in range(1300))  # half a minute of prefill for the demo model


def _cpu_s(pid):
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _endless(stream):
    """Half a minute of tokens, and more."""
    text = {"role": "user", "content": "[[loop]]"}
    return {"model": SCRIPTED, "messages": [text], "max_tokens": 100_000, "stream": stream}


def _long_prompt(stream):
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
async def _client(neuron, body):
    """A client that leaves at the end of the block; in it, the engine is at work for it."""
    got = bytearray()
    begin = _cpu_s(only_child())
    async with running(_read(neuron, body, got), name="client"):
        if body["stream"]:
            await until(lambda: got, within_s=30)
        await until(lambda: _cpu_s(only_child()) > begin + 0.5, within_s=30)
        yield got


async def _left_alone(neuron, body, ask):
    """Of a model's only slot: whoever comes next is served at once, and nothing goes on behind it."""
    for stream in (True, False):
        async with _client(neuron, body(stream)) as got:
            assert b"[DONE]" not in got
        async with asyncio.timeout(8):
            assert (await ask()).status_code == 200
        used = _cpu_s(only_child())
        await asyncio.sleep(0.5)
        assert _cpu_s(only_child()) - used < 0.3


async def _left_beside(neuron, body, beside, ask):
    """Of two slots, while the other one streams: the next one needs the slot of who left, and the other one never stops."""
    for stream in (True, False):
        await _one_left_beside(neuron, body(stream), beside, ask)


async def _one_left_beside(neuron, body, beside, ask):
    other = bytearray()

    def tokens():
        return other.count(b'"content":"') - 1  # the role's is empty

    async with running(_read(neuron, beside, other), name="beside") as task:
        await until(lambda: tokens() > 0, within_s=30)
        async with _client(neuron, body):
            pass
        async with asyncio.timeout(8):
            assert (await ask()).status_code == 200
        before = tokens()
        await until(lambda: tokens() > before, within_s=8)
        assert not task.done()


@pytest.mark.parametrize("beside", [False, True])
def test_in_mid_answer(models_dir, beside):
    """A hundred thousand tokens were to come."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            slots = 2 if beside else 1
            await neuron.load({**SCRIPTED_MODEL, "context": 131_072, "parallel": slots, "max_in_flight": slots})

            async def ask():
                return await neuron.chat(SCRIPTED, "hi")

            if beside:
                await _left_beside(neuron, _endless, _endless(stream=True), ask)
            else:
                await _left_alone(neuron, _endless, ask)

    asyncio.run(scenario())


@pytest.mark.parametrize("beside", [False, True])
def test_in_prefill(models_dir, beside):
    """Thousands of tokens of its prompt were still to be read."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            slots = 2 if beside else 1
            await neuron.load({**DEMO_MODEL, "context": 8192, "parallel": slots, "max_in_flight": slots})

            async def ask():
                return await neuron.chat(DEMO, "hi", max_tokens=2)

            if beside:
                await _left_beside(neuron, _long_prompt, _long_answer(), ask)
            else:
                await _left_alone(neuron, _long_prompt, ask)

    asyncio.run(scenario())

"""An engine that hangs is found out by its silence; one that works on a long prompt is not."""

import asyncio
import contextlib
import json
import os
import signal

import pytest
from helpers.live import ENDLESS_MODEL, SCRIPTED, endless, running_neuron
from helpers.processes import only_child
from helpers.waiting import until

from cortex.tasks import running

pytestmark = pytest.mark.model
CHAT = "/v1/chat/completions"


@contextlib.contextmanager
def _hanging_engine():
    """The engine's process stands still for the time of the block."""
    engine = only_child()
    os.kill(engine, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(engine, signal.SIGCONT)


def test_an_engine_that_hangs(models_dir):
    """In mid-stream it is an error event, before the first byte a 504; when it goes on, so does its model."""

    async def scenario():
        async with running_neuron(models_dir, admission={"idle_timeout_secs": 1}) as neuron:
            await neuron.load(ENDLESS_MODEL)
            got = bytearray()

            async def read():
                async with neuron.http.stream("POST", CHAT, json=endless()) as stream:
                    async for piece in stream.aiter_bytes():
                        got.extend(piece)

            async with running(read(), name="client") as reading:
                await until(lambda: got.count(b"data:") > 3)
                with _hanging_engine():
                    await asyncio.wait([reading], timeout=20)
                    assert reading.done()
                    late = await neuron.chat(SCRIPTED, "hi")
            error = json.loads(bytes(got).rstrip().rpartition(b"data: ")[2])["error"]
            assert error["code"] == "upstream_timeout"
            assert (late.status_code, late.json()["error"]["code"]) == (504, "upstream_timeout")
            assert (await neuron.chat(SCRIPTED, "hi")).status_code == 200

    asyncio.run(scenario())


def test_a_long_prefill_is_no_hanging_engine(models_dir):
    """A client that is not even streaming gets its answer, though the first token took longer than the idle time-out."""
    idle_s = 1

    async def scenario():
        async with running_neuron(models_dir, admission={"idle_timeout_secs": idle_s}) as neuron:
            await neuron.load(ENDLESS_MODEL)
            words, prompt_ms = 4000, 0
            while prompt_ms < 1000 * idle_s:  # a longer prompt on a faster machine
                words *= 2
                answer = await neuron.chat(SCRIPTED, "word " * words, max_tokens=2)
                assert answer.status_code == 200, answer.text
                prompt_ms = answer.json()["timings"]["prompt_ms"]

    asyncio.run(scenario())

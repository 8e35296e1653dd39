"""An engine that dies is contained: its clients hear why, the neuron stays, the model comes back."""

import asyncio
import json
import os
import signal

import pytest
from helpers.live import ENDLESS_MODEL, SCRIPTED, SCRIPTED_MODEL, endless, running_neuron
from helpers.processes import only_child

pytestmark = pytest.mark.model


@pytest.mark.parametrize("fatal", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_stream_of_a_dying_engine_ends_with_an_error_event_and_the_next_request_is_served(models_dir, fatal):
    """SEGV, KILL (what the kernel does when memory is out) and ABRT: whole events, one error that names the signal, then recovery."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            await neuron.load(ENDLESS_MODEL)
            text = b""
            async with neuron.http.stream("POST", "/v1/chat/completions", json=endless()) as stream:
                async for piece in stream.aiter_bytes():
                    if not text:
                        os.kill(only_child(), fatal)
                    text += piece
            *events, last = [
                json.loads(event.removeprefix(b"data: "))
                for event in text.split(b"\n\n")
                if event.startswith(b"data: ")
            ]
            assert all("choices" in event for event in events)
            assert last["error"]["code"] == "engine_failed"
            assert fatal.name in last["error"]["message"]
            assert (await neuron.get("/health"))["uptime_secs"] >= 0
            answer = await neuron.chat(SCRIPTED, "hi")
            assert answer.json()["choices"][0]["message"]["content"].startswith("Hello")

    asyncio.run(scenario())


def test_a_request_without_stream_hears_502(models_dir):
    """Nothing was sent yet, so the status can say it, and that trying again is reasonable."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            await neuron.load(ENDLESS_MODEL)

            async def shoot():
                while (await neuron.get("/health"))["models"][0]["in_flight"] == 0:
                    await asyncio.sleep(0.005)
                os.kill(only_child(), signal.SIGSEGV)

            answer, _ = await asyncio.gather(neuron.chat(SCRIPTED, "[[loop]]", max_tokens=100_000), shoot())
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_failed")
            assert "retry-after" in answer.headers

    asyncio.run(scenario())


def test_an_engine_that_keeps_dying_fails_with_the_reason(models_dir, monkeypatch):
    """No flapping for ever: after a few crashes the model is failed, says why, and can be loaded again by hand."""
    monkeypatch.setattr("cortex.neuron.models.slot.RESTART_PAUSE_S", 0.0)

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            await neuron.load(SCRIPTED_MODEL)
            for _ in range(4):
                assert (await neuron.chat(SCRIPTED, "hi")).status_code == 200
                os.kill(only_child(), signal.SIGSEGV)
                await _until_status(neuron, "recovering", "failed")
                await _until_status(neuron, "loaded", "failed")
            refused = await neuron.chat(SCRIPTED, "hi")
            assert refused.status_code == 503
            assert "SIGSEGV" in refused.json()["error"]["message"]
            assert (await neuron.load(SCRIPTED_MODEL)).json()["status"] == "loaded"
            assert (await neuron.chat(SCRIPTED, "hi")).status_code == 200

    asyncio.run(scenario())


async def _until_status(neuron, *wanted):
    while not any(
        entry["id"] == SCRIPTED and entry["status"] in wanted for entry in await neuron.get("/models?all=true")
    ):
        await asyncio.sleep(0.01)

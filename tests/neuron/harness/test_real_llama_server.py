"""A real llama-server of `build/engine` instead of the built-in engine. It takes half an hour to compile: without one these are skipped."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest
from helpers.live import DEMO, DEMO_MODEL, SCRIPTED, SCRIPTED_MODEL, running_neuron

from cortex.neuron.harness.server_binary import examine

ROOT = Path(__file__).resolve().parents[3]
SERVER = Path(os.environ.get("CORTEX_LLAMA_SERVER", ROOT / "dist" / "engine" / "llama-server"))
pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(
        not SERVER.exists(), reason="no llama-server: run build/engine, or name one in $CORTEX_LLAMA_SERVER"
    ),
]


def section():
    return {"llamacpp": {"server_binary": str(SERVER)}}


def test_it_tells_what_it_is():
    """Its version and options are read without a model."""
    server = examine(SERVER)
    assert server.problem is None
    assert server.version
    assert {"--kv-unified", "--sse-ping-interval"} <= server.options


def test_it_answers_as_the_built_in_engine_does(models_dir, tmp_path):
    """Whole and streamed, with usage and tools' absence told the same way; its socket is the neuron's alone, and its end is seen."""

    async def scenario():
        async with running_neuron(models_dir, harness=section(), runtime_dir=str(tmp_path)) as neuron:
            assert (await neuron.load(SCRIPTED_MODEL)).status_code == 200
            (socket,) = tmp_path.rglob("*.sock")
            assert stat.S_IMODE(socket.stat().st_mode) == 0o600
            answer = (await neuron.chat(SCRIPTED, "hi")).json()
            assert answer["choices"][0]["message"]["content"] == "Hello from the scripted model."
            assert answer["usage"]["completion_tokens"] > 0
            streamed = (await neuron.chat(SCRIPTED, "hi", stream=True)).text
            assert streamed.endswith("data: [DONE]\n\n")
            wrong = await neuron.chat(SCRIPTED, "hi", temperature="warm")
            assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "temperature")
            (harness,) = [h for h in (await neuron.get("/discovery"))["harness_details"] if h["name"] == "llamacpp"]
            assert harness["version"].startswith("llama-server ")

    asyncio.run(scenario())


def test_it_serves_a_real_model_and_takes_additions(models_dir):
    """The seed's probe, with a setting that only an external server has."""

    async def scenario():
        async with running_neuron(models_dir, harness=section()) as neuron:
            loaded = await neuron.load(DEMO_MODEL | {"server_args": ["--no-warmup"]})
            assert loaded.status_code == 200, loaded.text
            assert "Paris" in (await neuron.chat(DEMO, "What is the capital of France?")).text

    asyncio.run(scenario())


def test_a_broken_file_is_named_by_it(models_dir, tmp_path):
    """Its last words are read like those of the built-in engine."""
    whole = (models_dir / "scripted.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])

    async def scenario():
        async with running_neuron(tmp_path, harness=section()) as neuron:
            refused = await neuron.load({"model_id": "cut"})
            assert refused.status_code in (404, 422)
            assert str(tmp_path) not in refused.text

    asyncio.run(scenario())

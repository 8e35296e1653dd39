"""A neuron whose built-in engine has backends beside it: what it tells, what it loads, and what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from helpers.backends import CUDA, compile_backend, real_backends, write_manifest
from helpers.live import DEMO, DEMO_MODEL, SCRIPTED, SCRIPTED_MODEL, running_neuron

from cortex.neuron.hardware import library, processor

pytestmark = pytest.mark.model


@contextlib.asynccontextmanager
async def neuron_with(folder, models, **more):
    async with running_neuron(models, harness={"llamacpp": {"backends": str(folder)}}, **more) as neuron:
        yield neuron


async def told(neuron):
    """What `/discovery` says of the llama.cpp harness."""
    details = (await neuron.get("/discovery"))["harness_details"]
    return next(each for each in details if each["name"] == "llamacpp")


def test_a_real_model_is_served_by_the_code_for_this_processor(models_dir, tmp_path, caplog):
    """The probe's answer, no more memory promised than without, and `/discovery` and the log say what computes."""
    real, estimates = real_backends(), []
    variant = real.cpu.variant if real.cpu else None

    async def scenario(neuron, *, variant):
        assert (await told(neuron))["cpu_variant"] == variant
        loaded = await neuron.load(DEMO_MODEL)
        assert loaded.status_code == 200, loaded.text
        assert not loaded.json().get("notes")
        (entry,) = await neuron.get("/models")
        estimates.append(entry["vram_estimate_mb"])
        answer = (await neuron.chat(DEMO, "What is the capital of France?")).json()
        assert "Paris" in answer["choices"][0]["message"]["content"]
        assert (await neuron.http.post("/models/unload", json={"model_id": DEMO})).status_code == 200

    async def session():
        async with neuron_with(real.folder, models_dir, state_dir=str(tmp_path / "one")) as neuron:
            await scenario(neuron, variant=variant)
        assert any(f"{variant} on this processor" in line for line in caplog.messages)
        async with running_neuron(models_dir, state_dir=str(tmp_path / "other")) as neuron:
            await scenario(neuron, variant=None)

    caplog.set_level("INFO")
    asyncio.run(session())
    assert estimates[0] == estimates[1]


def test_a_variant_that_does_not_run_here_is_told_to_whoever_loads(models_dir, tmp_path, caplog):
    """The model is served all the same; the answer's notes and the log say that the built-in code computes."""
    compile_backend(tmp_path / "libggml-cpu-odd.so", SCORE=0)
    write_manifest(tmp_path, [{"file": "libggml-cpu-odd.so", "needs": []}])

    async def scenario():
        async with neuron_with(tmp_path, models_dir) as neuron:
            loaded = (await neuron.load(SCRIPTED_MODEL)).json()
            (note,) = loaded["notes"]
            assert note.startswith("the CPU backend 'libggml-cpu-odd.so' does not run on this processor; the built-in")
            answer = (await neuron.chat(SCRIPTED, "hi")).json()
            assert answer["choices"][0]["message"]["content"] == "Hello from the scripted model."

    asyncio.run(scenario())
    assert any("libggml-cpu-odd.so' does not run on this processor" in line for line in caplog.messages)


def test_a_folder_that_is_not_right_is_named_and_nothing_stands_in_for_it(models_dir, tmp_path, caplog):
    """At the start, on `/discovery`, and to whoever loads: the built-in engine is no silent substitute."""

    async def scenario():
        async with neuron_with(tmp_path / "nowhere", models_dir) as neuron:
            problem = "the folder 'nowhere' of harness.llamacpp.backends does not exist"
            assert (await told(neuron))["problem"] == problem
            refused = await neuron.load(SCRIPTED_MODEL)
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "harness_unusable")
            assert problem in refused.json()["error"]["message"]
            assert any(line.startswith(problem) for line in caplog.messages)

    asyncio.run(scenario())


def test_the_command_line_tells_what_this_build_has(tmp_path, monkeypatch, capsys):
    """`cortex version`: the variant for this processor and CUDA's architectures, or what is wrong with the folder."""
    from cortex.cli import main

    monkeypatch.setattr(library, "folder", lambda: tmp_path)
    monkeypatch.setattr(processor, "read_flags", lambda: frozenset({"avx512f"}))
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backends_here"] is None
    folder = write_manifest(tmp_path / "backends", [{"file": "libggml-cpu-zen4.so", "needs": ["avx512f"]}], CUDA)
    for name in ("libggml-cpu-zen4.so", "libggml-cuda.so"):
        (folder / name).touch()
    assert main(["version"]) == 0
    assert "  engines use zen4 on this processor, CUDA 12.4 for 89-real\n" in capsys.readouterr().out
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backends_here"] == {
        "cpu_variant": "zen4",
        "cuda_build": "12.4",
        "cuda_architectures": ["89-real"],
        "problem": None,
    }
    (folder / "libggml-cuda.so").unlink()
    assert main(["version"]) == 0
    assert "  the folder 'backends' of this build cannot be used: libggml-cuda.so is missing" in capsys.readouterr().out

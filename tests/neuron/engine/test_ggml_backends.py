"""Real engines with other backends than those of their library: good ones, and ones that misbehave."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import pytest
from helpers.backends import compile_backend, compile_library, real_backends
from helpers.engines import ask, engine_spec, running_engine, says
from helpers.processes import children

from cortex.net.pool import Pool
from cortex.neuron.engine.process import EngineFailed

pytestmark = pytest.mark.model
ANSWER = "Hello from the scripted model."


def started(spec, scenario):
    """What `scenario(engine)` returns."""

    async def session():
        async with running_engine(spec) as engine:
            return await scenario(engine)

    return asyncio.run(session())


def refused(spec) -> EngineFailed:
    with pytest.raises(EngineFailed) as failed:
        started(spec, None)
    assert not children()
    return failed.value


async def streamed(engine, body) -> str:
    """The text of a streamed chat, put together."""
    headers = [("content-type", "application/json")]
    content = json.dumps(body | {"stream": True}).encode()
    async with (
        Pool(keepalive=False) as pool,
        await pool.open(engine.address, "POST", "/v1/chat/completions", headers=headers, body=content) as exchange,
    ):
        lines = (await exchange.read_all(1 << 20)).decode().splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])


def test_an_engine_computes_with_the_code_for_this_processor(demo_model, tmp_path):
    """A real model says what it knows, whole and streamed, the engine tells of AVX-512 or VNNI, and its end is as ever."""
    variant = real_backends().paths(on_gpu=False)["cpu_backend"]
    spec = engine_spec(demo_model, tmp_path, cpu_backend=variant, chat_template="chatml")
    question = says("What is the capital of France?", temperature=0)

    async def scenario(engine):
        assert engine.info["cpu_backend"] == Path(variant).name
        assert {"AVX512 = 1", "AVX_VNNI = 1"} & {part.strip() for part in engine.info["system"].split("|")}
        assert engine.info["system"].count("CPU :") == 1  # in its place, not beside it
        status, answer = await ask(engine, "/v1/chat/completions", question)
        assert (status, "Paris" in answer["choices"][0]["message"]["content"]) == (200, True)
        assert await streamed(engine, question) == answer["choices"][0]["message"]["content"]
        assert (await engine.stop()).reason == "stopped on request"
        assert not Path(spec.socket_path).exists()

    started(spec, scenario)


def test_embeddings_are_the_same_whoever_computes_them(demo_model, tmp_path):
    """Up to rounding: the vectors of both engines point the same way."""
    variant = real_backends().paths(on_gpu=False)["cpu_backend"]
    vectors = []
    for number, file in enumerate((None, variant)):
        (folder := tmp_path / str(number)).mkdir()
        spec = engine_spec(
            demo_model, folder, cpu_backend=file, mode="embedding", pooling="mean", parallel=1, batch=2048
        )

        async def scenario(engine):
            status, answer = await ask(engine, "/v1/embeddings", {"input": "The weather is fine today."})
            assert status == 200
            return answer["data"][0]["embedding"]

        vectors.append(started(spec, scenario))
    built_in, other = vectors
    assert sum(map(math.prod, zip(built_in, other, strict=True))) > 0.999  # both have length 1


@pytest.mark.parametrize(
    ("macros", "why"),
    [
        ({"SCORE": 0}, "does not run on this processor"),
        ({"API_VERSION": 99}, "is refused by the engine's library: load_backend: failed to initialize backend"),
        ({"MISSING": 1}, "cannot be loaded: libggml-cpu-odd.so: undefined symbol: nobody_has_this"),
        ({"NAME": "BLAS"}, "is none: it calls itself 'BLAS'"),
        (None, "cannot be loaded: libggml-cpu-odd.so: file too short"),
    ],
)
def test_an_engine_keeps_its_own_code_where_another_cannot_be_used(macros, why, scripted_model, tmp_path):
    """It answers as without, and tells which file was passed over and why."""
    file = tmp_path / "libggml-cpu-odd.so"
    file.touch() if macros is None else compile_backend(file, **macros)
    spec = engine_spec(scripted_model, tmp_path, cpu_backend=str(file))
    lines: list[str] = []

    async def session():
        async with running_engine(spec, lines.append) as engine:
            problem = engine.info["cpu_backend_problem"]
            assert problem.startswith(f"the CPU backend 'libggml-cpu-odd.so' {why}")
            assert str(tmp_path) not in problem
            assert "cpu_backend" not in engine.info
            assert engine.info["system"].count("CPU :") == 1
            _, answer = await ask(engine, "/v1/chat/completions", says("hi"))
            assert answer["choices"][0]["message"]["content"] == ANSWER
            await engine.stop()
            assert problem in lines

    asyncio.run(session())


@pytest.mark.parametrize(
    ("macros", "why"),
    [
        ({}, "sees no GPU"),
        (
            {"COMPLAINT": "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected"},
            "sees no GPU: ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected",
        ),
        ({"API_VERSION": 99}, "is refused by the engine's library: load_backend: failed to initialize backend"),
        ({"MISSING": 1}, "cannot be loaded: libggml-cuda.so: undefined symbol: nobody_has_this"),
        (None, "cannot be loaded: libggml-cuda.so: cannot open shared object file: No such file or directory"),
    ],
)
def test_a_gpu_backend_that_cannot_be_used_fails_the_load(macros, why, scripted_model, tmp_path):
    """With its own reason, without our folders; the processor never stands in for the GPU."""
    file = tmp_path / "libggml-cuda.so"
    if macros is not None:
        compile_backend(file, **macros)
    failed = refused(engine_spec(scripted_model, tmp_path, gpu_backend=str(file), gpu_layers=-1))
    assert failed.kind == "backend"
    assert failed.reason.startswith(f"the GPU backend 'libggml-cuda.so' {why}")
    assert str(tmp_path) not in failed.reason


def test_what_a_gpu_backend_needs_is_loaded_before_it(scripted_model, tmp_path):
    """By its path, wherever the host has others of that name; without it the backend cannot be loaded, and a missing one is named."""
    library = compile_library(tmp_path / "libneeded.so.1")
    file = compile_backend(tmp_path / "libggml-cuda.so", str(library), NEEDED=1)
    spec = {"gpu_backend": str(file), "gpu_layers": -1}
    alone = refused(engine_spec(scripted_model, tmp_path, **spec))
    assert "cannot be loaded: libneeded.so.1: cannot open shared object file" in alone.reason
    with_it = refused(engine_spec(scripted_model, tmp_path, **spec, gpu_libraries=(str(library),)))
    assert with_it.reason == "the GPU backend 'libggml-cuda.so' sees no GPU"
    absent = refused(engine_spec(scripted_model, tmp_path, **spec, gpu_libraries=(f"{library}0",)))
    assert "cannot be loaded: libneeded.so.10: cannot open shared object file" in absent.reason

"""models.estimate against those who know: the buffers that llama.cpp makes, and xllamacpp's own estimates."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.windowed_gguf import write_windowed_model
from xllamacpp.memory import graph_size

from cortex.neuron.gguf import read_header
from cortex.neuron.models.estimate import GPU_CONTEXT_BYTES, HOST_PROCESS_BYTES, MIB, VOCABULARY_BYTES, estimate_memory

pytestmark = pytest.mark.model

# Loads each model as an engine does; what it says of its buffers is on stderr.
LOAD = """
import json, os, sys, xllamacpp
servers = []
for number, (path, context, parallel, batch, kv_type) in enumerate(json.loads(sys.argv[1])):
    p = xllamacpp.CommonParams()
    p.model.path, p.n_ctx, p.n_parallel, p.n_batch, p.n_ubatch = path, context, parallel, batch, batch
    p.hostnames, p.kv_unified, p.fit_params, p.verbosity = [f"{sys.argv[2]}/{number}.sock"], True, False, 6
    p.cache_type_k = p.cache_type_v = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{kv_type.upper()}")
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
    servers.append(xllamacpp.Server(p))
os._exit(0)
"""
BUFFER = re.compile(r"(model|KV|compute|output) buffer size = +([\d.]+) MiB")


@dataclass
class Buffers:
    """What llama.cpp made for one model, MiB."""

    weights: float
    cache: float = 0.0
    compute: float = 0.0


def loaded(cases: list[tuple[Any, ...]], folder: Path) -> list[Buffers]:
    """(path, context, parallel, batch, kv_type) of each."""
    asked = json.dumps([[str(path), *rest] for path, *rest in cases])
    command = [sys.executable, "-c", LOAD, asked, str(folder)]
    said = subprocess.run(command, capture_output=True, check=True, timeout=100, text=True).stderr
    models: list[Buffers] = []
    for kind, size in BUFFER.findall(said):
        if kind == "model":
            models.append(Buffers(float(size)))
        elif kind == "KV":
            models[-1].cache += float(size)
        else:
            models[-1].compute += float(size)
    assert len(models) == len(cases), said
    return models


def test_buffers_are_as_large_as_estimated(demo_model, scripted_model, tmp_path):
    """Weights and cache are met to the MiB; what computing takes is between a half and all of what is reckoned with."""
    cases = [
        (demo_model, 8192, 4, 512, "f16"),
        (demo_model, 4096, 1, 64, "q8_0"),
        (scripted_model, 8192, 4, 512, "f16"),
    ]
    for (path, context, parallel, batch, kv_type), made in zip(cases, loaded(cases, tmp_path), strict=True):
        header = read_header(path)
        told = estimate_memory(header, context=context, parallel=parallel, batch=batch, kv_type=kv_type)
        process = math.ceil((HOST_PROCESS_BYTES + VOCABULARY_BYTES * (header.vocab_size or 0)) / MIB)
        print(path.name, made, told)
        assert (told.weights_mb, told.kv_mb) == (math.ceil(made.weights), math.ceil(made.cache))
        assert made.compute / 3 <= told.compute_mb - process
        assert made.compute <= (told.compute_mb - process) * 1.25


def test_layers_with_a_window_keep_the_window(tmp_path):
    """By a period, by flags, or by what the architecture is known for; for one slot, for several, and where the context is shorter."""
    patterns: list[int | list[bool] | None] = [None, 3, [True, False] * 6, [True, True, False]]
    cases = []
    for number, pattern in enumerate(patterns):
        path = tmp_path / f"{number}.gguf"
        write_windowed_model(path, layers=12, window=512, pattern=pattern)
        cases += [(path, 65536, parallel, 64, "f16") for parallel in (1, 4)]
        cases.append((path, 2048, 4, 512, "f16"))
    for (path, context, parallel, batch, _), made in zip(cases, loaded(cases, tmp_path), strict=True):
        told = estimate_memory(read_header(path), context=context, parallel=parallel, batch=batch)
        assert told.kv_mb == math.ceil(made.cache), (path, context, parallel)


@pytest.mark.parametrize("context", [2048, 8192, 131072])
@pytest.mark.parametrize(("kv_type", "tolerance"), [("f16", 0.01), ("q8_0", 0.07)])
def test_the_cache_is_as_large_as_xllamacpps_memory_module_says(
    demo_model, scripted_model, context, kv_type, tolerance
):
    """It takes q8_0 for one byte a number, and its graph is that of attention without flash, which is never smaller than ours."""
    for path in (demo_model, scripted_model):
        header = read_header(path)
        facts = {
            "embedding_length": header.embedding_length,
            "block_count": header.block_count,
            "attention.head_count": header.head_count,
            "attention.head_count_kv": header.head_count_kv,
        }
        metadata = {f"llama.{key}": {"value": value} for key, value in facts.items()} | {
            "general.architecture": {"value": "llama"},
            "tokenizer.ggml.tokens": {"value": range(header.vocab_size or 0)},
        }
        cache, _, graph = graph_size(metadata, context, 512, 4, kv_type)
        told = estimate_memory(header, context=context, kv_type=kv_type, on_gpu=True)
        assert told.kv_mb == pytest.approx(sum(cache) / MIB, rel=tolerance, abs=1)
        assert told.compute_mb - GPU_CONTEXT_BYTES // MIB <= math.ceil(graph / MIB)

"""models.estimate: formulas against llama.cpp's own figures, and contexts that fit."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex.neuron.gguf import Header, read_header
from cortex.neuron.models.estimate import estimate_memory, fit_context, kv_bytes_per_token

CONTEXT = 8192

# A process that loads the model as an engine does and says what it holds then, in MiB.
MEASURE = """
import sys, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.hostnames = sys.argv[1], int(sys.argv[2]), [sys.argv[3]]
p.n_parallel, p.kv_unified, p.fit_params = 4, True, False
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(p)
resident = next(line for line in open("/proc/self/status") if line.startswith("VmRSS:"))
print(int(resident.split()[1]) // 1024, flush=True)
import os; os._exit(0)
"""


@pytest.fixture(name="header", scope="session")
def _header(demo_model: Path) -> Header:
    return read_header(demo_model)


@pytest.mark.parametrize(
    ("context", "kv_type", "mib"), [(2048, "f16", 45), (8192, "f16", 180), (8192, "q8_0", 96), (8192, "f32", 360)]
)
def test_the_cache_is_as_large_as_llama_cpp_says(header, context, kv_type, mib):
    """Cache sizes equal the buffers that llama.cpp reports for this model (95.6 MiB rounded up)."""
    assert estimate_memory(header, context=context, kv_type=kv_type).kv_mb == mib


@pytest.mark.model
def test_the_estimate_is_near_what_an_engine_holds(header, demo_model, tmp_path):
    """A real engine with 8,192 tokens of context holds between 60 and 125 % of the estimate: it is no less than 4/5 of the truth."""
    command = [sys.executable, "-c", MEASURE, str(demo_model), str(CONTEXT), str(tmp_path / "e.sock")]
    measured = int(subprocess.run(command, capture_output=True, check=True, timeout=100).stdout.split()[-1])
    estimate = estimate_memory(header, context=CONTEXT)
    print(json.dumps({"measured_mb": measured, "estimate_mb": estimate.total_mb}))
    assert estimate.weights_mb == 93
    assert 0.6 * estimate.total_mb <= measured <= 1.25 * estimate.total_mb


def test_layers_without_attention_cost_no_cache(header):
    """Heads are counted layer by layer."""
    full = kv_bytes_per_token(header, "f16")
    assert kv_bytes_per_token(replace(header, head_count_kv=(3, 0, 0, 3)), "f16") == full * 2 / 30
    assert kv_bytes_per_token(replace(header, full_attention_interval=3), "f16") == full / 3


def test_only_the_layers_on_the_gpu_count_there(header):
    """With half of the layers offloaded, half of weights and cache are on the GPU."""
    whole = estimate_memory(header, context=CONTEXT, on_gpu=True, gpu_layers=-1)
    half = estimate_memory(header, context=CONTEXT, on_gpu=True, gpu_layers=15)
    assert whole == estimate_memory(header, context=CONTEXT, on_gpu=True)
    assert half.kv_mb == pytest.approx(whole.kv_mb * 15 / 31, abs=1)
    assert half.weights_mb == pytest.approx(whole.weights_mb * 15 / 31, abs=1)


def test_what_goes_with_a_model_is_weight(header):
    """A projector's or a draft's bytes are added."""
    alone = estimate_memory(header, context=CONTEXT)
    assert estimate_memory(header, context=CONTEXT, extra_bytes=100 << 20).total_mb == alone.total_mb + 100


def test_with_room_the_context_is_the_models_own(header):
    """Memory never makes a context longer than the model was trained for."""
    assert fit_context(header, 100_000) == 8192
    assert fit_context(replace(header, context_length=500), 100_000) == 500


def test_without_room_there_is_no_context(header):
    """Where not even 512 tokens fit beside the weights, the answer is 0."""
    assert fit_context(header, 100) == 0


@settings(deadline=None)
@given(free_mb=st.integers(100, 500), kv_type=st.sampled_from(["f16", "q8_0", "q4_0"]), parallel=st.integers(1, 64))
def test_a_context_that_fits_is_estimated_to_fit(header, free_mb, kv_type, parallel):
    """What fit_context allows, estimate_memory agrees with; and the next step would be too much."""
    context = fit_context(header, free_mb, kv_type=kv_type, parallel=parallel)
    assert context in (0, 512) or context % 1024 == 0
    if context:
        assert estimate_memory(header, context=context, kv_type=kv_type, parallel=parallel).total_mb <= free_mb
    if context < 8192:
        more = estimate_memory(header, context=max(512, context + 1024), kv_type=kv_type, parallel=parallel)
        assert more.total_mb > free_mb - 4

"""What a load request leaves open is decided from the header and the host."""

from dataclasses import replace
from pathlib import Path

import pytest

from cortex.errors import CortexError
from cortex.neuron.harness.base import HostShare, ModelFiles
from cortex.neuron.harness.settings import (
    CPU_BATCH,
    CPU_CONTEXT,
    CPU_EMBEDDING_CONTEXT,
    EMBEDDING_CONTEXT,
    GPU_BATCH,
    LEAST_CONTEXT,
    OUTPUT_BOUND,
    resolve,
)
from cortex.wire.fleet import LoadSettings

CPU = HostShare(cores=8, memory_free_mb=64_000)
GPU = HostShare(cores=8, devices=(2, 0), memory_free_mb=64_000)
EMBEDDING = {"pooling": "mean"}


@pytest.fixture
def decide(header):
    """The specification for some settings on some host, of the header with some changes."""

    def decide(host=CPU, changes=None, files=None, **settings):
        return resolve(
            harness="llamacpp",
            alias="m",
            files=files or ModelFiles(Path("/models/m.gguf")),
            header=replace(header, **(changes or {})),
            settings=LoadSettings(**settings),
            host=host,
            socket_path=Path("/run/e.sock"),
        )

    return decide


def test_defaults_on_a_processor(decide):
    """Four slots, one core for the rest of the host, small batches, a context that a processor can use, a bounded answer."""
    spec = decide()
    assert (spec.mode, spec.parallel, spec.threads, spec.gpu_layers) == ("chat", 4, 7, 0)
    assert (spec.context, spec.batch, spec.max_output_tokens) == (CPU_CONTEXT, CPU_BATCH, OUTPUT_BOUND)
    assert (spec.output_cap, spec.kv_type, spec.flash_attention) == (None, "f16", "auto")
    assert spec.env["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("settings", "batch"),
    [
        ({"parallel": 100}, 100),
        ({"parallel": 256, "context": 256}, 256),
        ({"mode": "embedding", "context": 2048, "parallel": 3}, 2046),
        ({"mode": "rerank", "context": 2048, "parallel": 4}, 2048),
        ({"mode": "embedding", "context": 256, "parallel": 256}, 256),
    ],
)
def test_a_batch_has_the_same_for_every_slot(decide, settings, batch):
    """At least a token for each, and where inputs are pooled as many for each: an engine dies of another one while it loads."""
    assert decide(**settings).batch == batch


def test_defaults_on_gpus(decide):
    """All layers on the chosen devices, counted as NVML counts them, and the model's whole context."""
    spec = decide(GPU)
    assert (spec.gpu_layers, spec.context, spec.batch) == (-1, 131_072, GPU_BATCH)
    assert spec.env == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "2,0"}


@pytest.mark.parametrize(
    ("own", "fitting", "asked", "context"),
    [
        (8192, None, None, 8192),  # the model's own
        (None, None, None, 4096),  # the header does not say
        (131_072, 10_000, None, 10_000),  # as far as memory allows
        (131_072, 100, None, LEAST_CONTEXT),  # not made useless: such a load is to be refused
        (1024, 100, None, 1024),  # never more than the model's own
        (8192, 100, 50_000, 50_000),  # what was asked for is what is loaded, or refused
    ],
)
def test_context(own, fitting, asked, context, decide):
    """Asked for, else the model's own bounded by memory and use."""
    host = replace(CPU, fitting_context=fitting)
    assert decide(host, {"context_length": own}, context=asked).context == context


@pytest.mark.parametrize(("cores", "asked", "threads"), [(1, None, 1), (2, None, 1), (16, None, 15), (2, 6, 6)])
def test_threads(cores, asked, threads, decide):
    """One core stays free, but one thread there always is."""
    assert decide(replace(CPU, cores=cores), threads=asked).threads == threads


def test_settings_win(decide):
    """What a request says is not decided again."""
    spec = decide(
        replace(GPU, shares=(0.25, 0.75)),  # of (1, 3)
        files=ModelFiles(Path("/m.gguf"), Path("/p.gguf"), Path("/d.gguf")),
        parallel=2,
        gpu_layers=10,
        kv_type="q8_0",
        flash_attention="on",
        chat_template="chatml",
        max_output_tokens=100,
        tensor_split=(1, 3),
        split_mode="row",
        main_gpu=0,
    )
    assert (spec.parallel, spec.gpu_layers, spec.kv_type, spec.flash_attention) == (2, 10, "q8_0", "on")
    assert (spec.mmproj, spec.draft, spec.chat_template) == ("/p.gguf", "/d.gguf", "chatml")
    assert (spec.max_output_tokens, spec.output_cap) == (100, 100)
    assert (spec.tensor_split, spec.split_mode, spec.main_gpu) == ((0.25, 0.75), "row", 1)


def test_gpus_are_named_by_uuid(decide):
    """CUDA may count otherwise than NVML does, and no more after a card was lost; without all UUIDs indices must do."""
    assert decide(replace(GPU, uuids=("GPU-b", "GPU-a"))).env["CUDA_VISIBLE_DEVICES"] == "GPU-b,GPU-a"
    assert decide(GPU).env["CUDA_VISIBLE_DEVICES"] == "2,0"


@pytest.mark.parametrize(
    ("devices", "shares", "freest", "split"),
    [
        ((1,), (1.0,), 0, (None, None, None)),  # one GPU has nothing to split
        ((0, 1), (1 / 3, 2 / 3), 1, ("layer", (0.3333, 0.6667), 1)),
        ((2, 0), (0.5, 0.5), 0, ("layer", (0.5, 0.5), 0)),
    ],
)
def test_a_model_over_several_gpus(devices, shares, freest, split, decide):
    """Whole layers in proportion to free memory; what is not split goes where most is free."""
    spec = decide(HostShare(cores=8, devices=devices, shares=shares, freest=freest))
    assert (spec.split_mode, spec.tensor_split, spec.main_gpu) == split


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"main_gpu": 1}, "main_gpu"),
        ({"kv_type": "q8_0", "flash_attention": "off"}, "kv_type"),
        ({"server_args": ("--mlock",)}, "server_args"),
    ],
)
def test_contradictions_are_refused(settings, param, decide):
    """Settings that cannot hold together are an error that names the field, before any process is started."""
    with pytest.raises(CortexError) as refused:
        decide(GPU, **settings)
    assert (refused.value.status, refused.value.param) == (400, param)


def test_no_layers_on_gpus_opens_no_device(decide):
    """`gpu_layers = 0` keeps the engine from holding memory of a GPU that it does not use."""
    spec = decide(GPU, gpu_layers=0)
    assert (spec.env["CUDA_VISIBLE_DEVICES"], spec.batch) == ("", CPU_BATCH)


def test_an_embedding_model(decide):
    """One slot, because vectors of a mixed batch differ from those of the same texts alone; one batch for a whole input."""
    spec = decide(changes=EMBEDDING)
    assert (spec.mode, spec.parallel, spec.context, spec.batch) == (
        "embedding",
        1,
        CPU_EMBEDDING_CONTEXT,
        CPU_EMBEDDING_CONTEXT,
    )
    assert (spec.pooling, spec.prompt_cache_mb) == (None, 0)
    assert decide(GPU, EMBEDDING).context == EMBEDDING_CONTEXT


@pytest.mark.parametrize(
    ("changes", "asked", "mode", "pooling"),
    [
        ({}, {}, "chat", None),
        ({"pooling": "cls"}, {}, "embedding", None),
        ({"pooling": "rank"}, {}, "rerank", "rank"),
        ({"classifies": True}, {}, "rerank", "rank"),
        ({}, {"mode": "embedding"}, "embedding", "mean"),
        ({}, {"mode": "embedding", "pooling": "last"}, "embedding", "last"),
        ({"pooling": "mean"}, {"mode": "chat"}, "chat", None),
    ],
)
def test_mode_and_pooling(changes, asked, mode, pooling, decide):
    """What the model is for comes from its header unless the request says it."""
    spec = decide(changes=changes, **asked)
    assert (spec.mode, spec.pooling) == (mode, pooling)


@pytest.mark.parametrize(("free_mb", "cache_mb"), [(None, 256), (800, 50), (64_000, 1024)])
def test_prompt_cache(free_mb, cache_mb, decide):
    """The host cache for prompts is a small part of what is free, never llama.cpp's own 8 GiB."""
    assert decide(replace(CPU, memory_free_mb=free_mb)).prompt_cache_mb == cache_mb


@pytest.mark.parametrize(("in_flight", "threads"), [(None, 8), (2, 8), (100, 104)])
def test_http_threads(in_flight, threads, decide):
    """Every request that is let through finds a thread, and health finds one beside them."""
    assert decide(replace(CPU, max_in_flight=in_flight)).http_threads == threads

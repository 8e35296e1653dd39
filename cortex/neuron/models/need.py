"""What a load needs of memory, and how much context fits into what there is: the estimate for one engine's settings."""

from __future__ import annotations

from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.harness.base import ModelFiles
from cortex.neuron.harness.settings import DEFAULT_SLOTS, PROMPT_CACHE_MAX_MB, PROMPT_CACHE_SHARE
from cortex.neuron.models.estimate import GPU_CONTEXT_BYTES, MIB, estimate_memory, fit_context
from cortex.neuron.models.fit import Memory
from cortex.neuron.models.source import LocalModel
from cortex.wire.fleet import LoadRequest


def fitting_context(
    request: LoadRequest, model: LocalModel, files: ModelFiles, memory: Memory, *, on_gpu: bool
) -> int | None:
    """Tokens of context that memory has room for; None when the host does not tell."""
    if memory.free_mb is None:
        return None
    return fit_context(
        model.header,
        memory.free_mb if on_gpu else memory.free_mb * (PROMPT_CACHE_SHARE - 1) // PROMPT_CACHE_SHARE,
        parallel=request.parallel or DEFAULT_SLOTS,
        kv_type=request.kv_type or "f16",
        gpu_layers=request.gpu_layers,
        on_gpu=on_gpu,
        extra_bytes=files.mmproj_bytes + files.draft_bytes,
    )


def needed_mb(model: LocalModel, files: ModelFiles, spec: EngineSpec, devices: int = 0) -> int:
    """MiB that an engine will take, of all its GPUs together or of the host; `devices`: how many GPUs.

    A harness whose library uses GPUs in another way than llama.cpp says by itself how much (`device_mb`).
    """
    if known := spec.extras.get("device_mb"):
        return int(known)
    extra = (files.mmproj_bytes if spec.mmproj else 0) + (files.draft_bytes if spec.draft else 0)
    cache_mb = 0 if spec.gpu_layers else spec.prompt_cache_mb  # beside a GPU it is in memory that nobody counts
    estimate = estimate_memory(
        model.header,
        context=spec.context,
        parallel=spec.parallel,
        kv_type=spec.kv_type or "f16",
        gpu_layers=spec.gpu_layers,
        batch=spec.batch,
        on_gpu=spec.gpu_layers != 0,
        extra_bytes=extra,
    )
    contexts_mb = max(0, devices - 1) * GPU_CONTEXT_BYTES // MIB  # the driver's on each further GPU
    return estimate.total_mb + contexts_mb + cache_mb + int(spec.extras.get("work_mb", 0))


def host_mb(model: LocalModel, spec: EngineSpec) -> int:
    """MiB of host memory that an engine on GPUs takes beside theirs: of layers that stay there, with their part of the cache.

    A harness whose library keeps other things there says by itself how much (`host_mb`).
    """
    if (known := spec.extras.get("host_mb")) is not None:
        return int(known)
    whole, there = (
        estimate_memory(
            model.header,
            context=spec.context,
            parallel=spec.parallel,
            kv_type=spec.kv_type or "f16",
            gpu_layers=layers,
            batch=spec.batch,
            on_gpu=True,
        )
        for layers in (-1, spec.gpu_layers)
    )
    return whole.total_mb - there.total_mb


def with_cache(need_mb: int) -> int:
    """What has to be free for a model that needs `need_mb`: the prompt cache takes its share of what is free."""
    return need_mb + min(PROMPT_CACHE_MAX_MB, need_mb // (PROMPT_CACHE_SHARE - 1) + 1)

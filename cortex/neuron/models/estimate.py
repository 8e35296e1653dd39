"""How much memory a model will take, from its header. Pure, and rather too much than too little.

    weights   the tensors' bytes: engines keep them as they are in the file
    KV cache  for every token of context, layer by layer: kv_heads x (key_length + value_length) numbers of the cache's
              type. llama.cpp keeps one unified cache of `context` cells for all slots, so `parallel` does not multiply it.
              A layer with a sliding window keeps the window of every slot and one batch, in steps of 256 cells, and no
              more than `context`. Recurrent states are not counted.
    compute   activations of one batch: about 16 rows of embedding_length floats for each of its tokens, and the mask of
              flash attention, 2 bytes for every pair of batch token and context cell; logits of `parallel` tokens
    process   the engine itself: 48 MiB and 400 bytes for each token of the vocabulary in host memory; on a GPU the
              driver's context, about 512 MiB

Compared with llama.cpp (xllamacpp 2026.10, CPU, SmolLM2-135M Q4_1, batch 512): its KV buffer of 45 MiB at 2,048 tokens
and 180 MiB at 8,192 (95.6 MiB as q8_0) is met exactly; its compute buffer is 16.6 and 22.6 MiB, here 20.0 and 26.0;
resident after a prompt of 1,500 tokens were 218, 353 and 269 MiB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cortex.neuron.gguf import Header
from cortex.neuron.gguf.tables import TENSOR_TYPES

MIB = 1 << 20
BATCH = 512  # llama.cpp's own physical batch, tokens
ACTIVATION_ROWS = 16
HOST_PROCESS_BYTES = 48 * MIB
VOCABULARY_BYTES = 400
GPU_CONTEXT_BYTES = 512 * MIB
UNKNOWN_CONTEXT = 4096  # of a file that does not say what it was trained for
LEAST_CONTEXT = 512  # less serves nobody
CONTEXT_STEP = 1024
WINDOW_STEP = 256  # cells

_TYPES = {kind.name.lower(): kind for kind in TENSOR_TYPES.values()}


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """In MiB, each rounded up. `compute_mb` includes the engine process itself."""

    weights_mb: int
    kv_mb: int
    compute_mb: int

    @property
    def total_mb(self) -> int:
        return self.weights_mb + self.kv_mb + self.compute_mb


def estimate_memory(
    header: Header,
    *,
    context: int,
    parallel: int = 4,
    kv_type: str = "f16",
    gpu_layers: int | None = None,
    batch: int = BATCH,
    on_gpu: bool = False,
    extra_bytes: int = 0,
) -> MemoryEstimate:
    """Memory where the layers run: on the GPU if `on_gpu`, else in the host.

    gpu_layers   None or negative: all of them; a smaller number than the model has: their share of weights and cache
    extra_bytes  weights of what goes with the model: a projector, a draft model
    """
    share = _share(header, gpu_layers) if on_gpu else 1.0
    full, sliding = _kv_bytes(header, kv_type)
    cells = _window_cells(header, context, parallel, batch)
    return MemoryEstimate(
        weights_mb=_mib(header.tensor_bytes * share + extra_bytes),
        kv_mb=_mib((context * full + cells * sliding) * share),
        compute_mb=_mib(_compute_bytes(header, context, parallel, batch) + _process_bytes(header, on_gpu=on_gpu)),
    )


def fit_context(
    header: Header,
    free_mb: int,
    *,
    parallel: int = 4,
    kv_type: str = "f16",
    gpu_layers: int | None = None,
    batch: int = BATCH,
    on_gpu: bool = False,
    extra_bytes: int = 0,
) -> int:
    """The model's own context, or as much of it as fits into `free_mb`, in steps of 1,024 tokens; 0 when not even 512 fit."""
    own = header.context_length or UNKNOWN_CONTEXT
    share = _share(header, gpu_layers) if on_gpu else 1.0
    fixed = header.tensor_bytes * share + extra_bytes + _process_bytes(header, on_gpu=on_gpu)
    fixed += _compute_bytes(header, 0, parallel, batch) + 3 * MIB  # estimates round up three times
    full, sliding = (size * share for size in _kv_bytes(header, kv_type))
    cells, left = _window_cells(header, own, parallel, batch), free_mb * MIB - fixed
    fitting = int((left - cells * sliding) // (full + _mask_bytes(batch)))
    if fitting < cells:  # so short that a window holds all of it, and perhaps a step more
        fitting = min(cells, int((left - WINDOW_STEP * sliding) // (full + sliding + _mask_bytes(batch))))
    if fitting >= own:
        return own
    if fitting >= CONTEXT_STEP:
        return fitting // CONTEXT_STEP * CONTEXT_STEP
    return LEAST_CONTEXT if fitting >= LEAST_CONTEXT else 0


def kv_bytes_per_token(header: Header, kv_type: str) -> float:
    """Bytes of cache for one token more of a long context. `kv_type` is ggml's name in small letters: f16, q8_0, …"""
    return _kv_bytes(header, kv_type)[0]


def _kv_bytes(header: Header, kv_type: str) -> tuple[float, float]:
    """Of one cell: in the layers that attend to everything, and in those that attend to a window."""
    kind = _TYPES[kv_type]
    head = ((header.key_length or 0) + (header.value_length or 0)) * kind.size / kind.block
    heads, slides = header.kv_heads, header.slides
    sliding = sum(count for count, windowed in zip(heads, slides, strict=False) if windowed)
    return (sum(heads) - sliding) * head, sliding * head


def _window_cells(header: Header, context: int, parallel: int, batch: int) -> int:
    """Cells of a layer with a sliding window (llama.cpp's llama_kv_cache_iswa)."""
    wanted = min(context, (header.sliding_window or 0) * parallel + batch)
    return math.ceil(wanted / WINDOW_STEP) * WINDOW_STEP


def _share(header: Header, gpu_layers: int | None) -> float:
    """The part of the model on the GPU; the output layer counts as one more."""
    if gpu_layers is None or gpu_layers < 0 or not header.block_count:
        return 1.0
    return min(1.0, gpu_layers / (header.block_count + 1))


def _compute_bytes(header: Header, context: int, parallel: int, batch: int) -> int:
    activations = batch * ACTIVATION_ROWS * (header.embedding_length or 0) * 4
    logits = parallel * (header.vocab_size or 0) * 4
    return activations + logits + context * _mask_bytes(batch)


def _mask_bytes(batch: int) -> int:
    """Of the attention mask, for one cell of context."""
    return 2 * batch


def _process_bytes(header: Header, *, on_gpu: bool) -> int:
    if on_gpu:
        return GPU_CONTEXT_BYTES
    return HOST_PROCESS_BYTES + VOCABULARY_BYTES * (header.vocab_size or 0)


def _mib(size: float) -> int:
    return math.ceil(size / MIB)

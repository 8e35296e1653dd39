"""A load request, a header and the host's facts → numbers for an engine. What the request leaves open is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cortex import errors
from cortex.neuron.engine.spec import EngineSpec, Mode
from cortex.neuron.gguf import Header
from cortex.neuron.harness.base import HostShare, ModelFiles
from cortex.wire.fleet import LoadSettings

DEFAULT_SLOTS = 4
UNKNOWN_CONTEXT = 4096  # the header does not say
CPU_CONTEXT = 32_768  # an agent's first prompt has 20,000 tokens; more is minutes of prefill on a processor
EMBEDDING_CONTEXT = 8192  # an input is computed in one batch, whose buffers grow with it
CPU_EMBEDDING_CONTEXT = 2048
LEAST_CONTEXT = 2048  # where even this does not fit, the load is to be refused, not made useless
OUTPUT_BOUND = 16_384  # tokens of an answer whose request names no bound: a small model may never stop by itself
CPU_BATCH = 64  # a client that leaves in mid-prefill stops it within a batch (0.4 s here); costs 2 % of prefill speed
GPU_BATCH = 512  # llama.cpp's own micro-batch
SPARE_HTTP_THREADS = 4  # health, tokenize and the last requests' connections, beside those that generate
PROMPT_CACHE_SHARE = 16  # of free memory
PROMPT_CACHE_MAX_MB = 1024
PROMPT_CACHE_UNKNOWN_MB = 256
_FULL_TYPES = ("f32", "f16", "bf16")


def resolve(
    *,
    harness: str,
    alias: str,
    files: ModelFiles,
    header: Header,
    settings: LoadSettings,
    host: HostShare,
    socket_path: Path,
    external: bool = False,
) -> EngineSpec:
    """The specification of an engine; `external`: of a server that is not ours. Raises CortexError (400) for settings that contradict one another."""
    _check(settings, external=external)
    mode = mode_of(header, settings)
    layers = _gpu_layers(settings, host)
    context = _context(mode, header, settings, host, on_gpu=layers != 0)
    parallel = settings.parallel or (DEFAULT_SLOTS if mode == "chat" else 1)
    return EngineSpec(
        harness=harness,
        alias=alias,
        model_path=str(files.weights),
        mmproj=str(files.mmproj) if files.mmproj else None,
        draft=str(files.draft) if files.draft else None,
        socket_path=str(socket_path),
        mode=mode,
        context=context,
        parallel=parallel,
        batch=_batch(mode, context, parallel, on_gpu=layers != 0),
        threads=settings.threads or max(1, host.cores - 1),  # the engine's threads spin: one core is for the rest
        max_output_tokens=settings.max_output_tokens or min(OUTPUT_BOUND, context),
        output_cap=settings.max_output_tokens,
        prompt_cache_mb=_prompt_cache_mb(mode, host),
        http_threads=max(parallel, host.max_in_flight or 0) + SPARE_HTTP_THREADS,
        gpu_layers=layers,
        kv_type=settings.kv_type or "f16",
        flash_attention=settings.flash_attention or "auto",
        pooling=_pooling(mode, header, settings),
        chat_template=settings.chat_template,
        split_mode=_split_mode(settings, host),
        tensor_split=tuple(round(share, 4) for share in host.shares) if len(host.devices) > 1 else None,
        main_gpu=_main_gpu(settings, host),
        env=environment(layers, host),
        extras={"fim": header.fim} if header.fim and mode == "chat" else {},
    )


def _check(settings: LoadSettings, *, external: bool) -> None:
    if settings.server_args and not external:
        raise errors.invalid_request(
            "server_args are for an external llama-server; the built-in engine takes none: leave them out",
            code="unsupported_setting",
            param="server_args",
        )
    if settings.flash_attention == "off" and settings.kv_type not in (None, *_FULL_TYPES):
        raise errors.invalid_request(
            f"kv_type '{settings.kv_type}' needs flash attention, which is off; use one of {', '.join(_FULL_TYPES)}",
            param="kv_type",
        )


def mode_of(header: Header, settings: LoadSettings) -> Mode:
    if settings.mode:
        return settings.mode
    if header.is_rerank:
        return "rerank"
    return "embedding" if header.is_embedding else "chat"


def _context(mode: Mode, header: Header, settings: LoadSettings, host: HostShare, *, on_gpu: bool) -> int:
    """What was asked for; else the model's own, as far as memory allows and as it can be used here."""
    if settings.context:
        return settings.context
    own = header.context_length or UNKNOWN_CONTEXT
    fitting = own if host.fitting_context is None else max(host.fitting_context, min(own, LEAST_CONTEXT))
    return min(own, fitting, _useful_context(mode, on_gpu=on_gpu) or own)


def _useful_context(mode: Mode, *, on_gpu: bool) -> int | None:
    if mode == "chat":
        return None if on_gpu else CPU_CONTEXT
    return EMBEDDING_CONTEXT if on_gpu else CPU_EMBEDDING_CONTEXT


def _batch(mode: Mode, context: int, parallel: int, *, on_gpu: bool) -> int:
    """Pooling wants the whole input in one batch. llama.cpp dies of one that slots cannot share evenly, or that has no token for each."""
    if mode != "chat":
        return max(parallel, context // parallel * parallel)
    return max(parallel, min(context, GPU_BATCH if on_gpu else CPU_BATCH))


def _gpu_layers(settings: LoadSettings, host: HostShare) -> int:
    if not (host.devices or host.other_gpus):
        return 0
    return -1 if settings.gpu_layers is None else settings.gpu_layers


def _split_mode(settings: LoadSettings, host: HostShare) -> str | None:
    """layer: whole layers one after the other, little traffic between cards; row: all cards at once, for fast links."""
    return (settings.split_mode or "layer") if len(host.devices) > 1 else None


def _main_gpu(settings: LoadSettings, host: HostShare) -> int | None:
    """The engine counts the devices that it sees, the operator those of the host. It has what is not split, so room counts."""
    if settings.main_gpu is None:
        return host.freest if len(host.devices) > 1 else None
    if not host.devices:
        return None
    if settings.main_gpu not in host.devices:
        raise errors.invalid_request(
            f"main_gpu {settings.main_gpu} is not among the devices of this load, {list(host.devices)}",
            param="main_gpu",
        )
    return host.devices.index(settings.main_gpu)


def environment(layers: int, host: HostShare) -> Mapping[str, str]:
    """CUDA is told UUIDs: it may count otherwise than NVML, and no more after a card was lost. Without GPU layers no device may even be opened."""
    if layers and not host.devices:
        return {}  # GPUs that are not NVIDIA's: the server finds them by itself
    visible = ",".join(host.uuids or map(str, host.devices)) if layers else ""
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": visible}


def _pooling(mode: Mode, header: Header, settings: LoadSettings) -> str | None:
    """None leaves it to the file. A chat model that is to embed does not say how: the mean is what its clients expect."""
    if settings.pooling or mode == "chat":
        return settings.pooling
    if mode == "rerank":
        return "rank"
    return "mean" if header.pooling in (None, "none") else None


def _prompt_cache_mb(mode: Mode, host: HostShare) -> int:
    if mode != "chat":
        return 0
    if host.memory_free_mb is None:
        return PROMPT_CACHE_UNKNOWN_MB
    return min(PROMPT_CACHE_MAX_MB, host.memory_free_mb // PROMPT_CACHE_SHARE)

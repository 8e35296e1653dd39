"""llama.cpp's own server in this engine process. The only importer of xllamacpp (a native library of 106 MB)."""

from __future__ import annotations

from typing import Any

import xllamacpp

from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.harness import ggml_backends

_LOG_LEVEL = 3  # llama.cpp's "info": no prompt is ever written at it
_KEPT: list[Any] = []  # the server lives as long as its process


def serve(spec: EngineSpec) -> dict[str, Any]:
    """Load the model and listen on the specification's socket. Raises RuntimeError; the library's log has the reason.

    The answer tells `{engine, version, system}`, and `cpu_backend` or `cpu_backend_problem` where the specification names one.
    """
    backends = ggml_backends.load(xllamacpp.xllamacpp.__file__, spec)
    server = xllamacpp.Server(_params(spec))
    _KEPT.append(server)
    told = {"engine": "llama.cpp", "version": xllamacpp.__version__, "system": xllamacpp.get_system_info()}
    return told | backends


def _params(spec: EngineSpec) -> Any:
    p = xllamacpp.CommonParams()
    _listen(p, spec)
    _model(p, spec)
    _context(p, spec)
    _devices(p, spec)
    return p


def _listen(p: Any, spec: EngineSpec) -> None:
    p.hostnames = [spec.socket_path]
    p.n_threads_http = spec.http_threads
    p.sse_ping_interval = 1  # seconds: a client, and whatever stands before it, sees life during a prefill
    p.ui = False
    p.verbosity = _LOG_LEVEL
    p.offline = True


def _model(p: Any, spec: EngineSpec) -> None:
    p.model.path = spec.model_path
    p.model_alias = {spec.alias}
    p.mmproj.path = spec.mmproj or ""
    p.mmproj_use_gpu = spec.gpu_layers != 0
    p.chat_template = spec.chat_template or ""
    p.use_jinja = True
    if spec.draft:
        p.speculative.draft.mparams.path = spec.draft
        p.speculative.draft.n_gpu_layers = spec.gpu_layers
        p.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
        _threads(p.speculative.draft, spec)


def _context(p: Any, spec: EngineSpec) -> None:
    p.n_ctx = spec.context
    p.n_parallel = spec.parallel
    p.kv_unified = True
    p.n_predict = spec.max_output_tokens  # only where a request names no bound
    p.n_batch = p.n_ubatch = spec.batch
    p.cache_ram_mib = spec.prompt_cache_mb
    p.fit_params = False  # the neuron decided context and layers: the engine must fail rather than choose others
    p.cache_type_k = p.cache_type_v = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{spec.kv_type.upper()}")
    p.flash_attn_type = _FLASH_ATTENTION[spec.flash_attention]
    p.embedding = spec.mode != "chat"
    if spec.pooling:
        p.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{spec.pooling.upper()}")
    _threads(p, spec)


def _threads(p: Any, spec: EngineSpec) -> None:
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = spec.threads


def _devices(p: Any, spec: EngineSpec) -> None:
    p.n_gpu_layers = spec.gpu_layers
    if spec.split_mode:
        p.split_mode = getattr(xllamacpp.llama_split_mode, f"LLAMA_SPLIT_MODE_{spec.split_mode.upper()}")
    if spec.tensor_split:
        p.tensor_split = [*spec.tensor_split, *([0.0] * (len(p.tensor_split) - len(spec.tensor_split)))]
    if spec.main_gpu is not None:
        p.main_gpu = spec.main_gpu


_FLASH_ATTENTION = {
    "auto": xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}

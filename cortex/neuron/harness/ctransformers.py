"""The ctransformers harness at the neuron: files of before GGUF, and on request llama GGUF with a SentencePiece vocabulary.

Its engine is ours (`ctransformers_engine`), speaks OpenAI's words itself, and its answers pass as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.engine.spec import EngineSpec, Mode
from cortex.neuron.ggml.workspace import UNKNOWN_CONTEXT, workspace
from cortex.neuron.gguf import Header
from cortex.neuron.harness import ctransformers_cuda as cuda
from cortex.neuron.harness import settings as defaults
from cortex.neuron.harness.base import HostShare, ModelFiles, Prepared
from cortex.neuron.harness.ctransformers_cuda import NO_CUDA, CudaLibrary
from cortex.neuron.harness.ctransformers_requests import check
from cortex.neuron.harness.no_model import no_model
from cortex.wire.fleet import Device, LoadSettings

LEAST_CONTEXT = 64  # tokens; with less room in the library's buffers a model is of no use
UNBOUNDED_CONTEXT = 32_768  # of files that do not say what they were made for
_MOST_CONTEXT = {"falcon": 2048}  # its buffers were made for so many
_F32_CACHES = frozenset({"gpt2", "starcoder", "falcon"})
_MIB = 1 << 20


class CTransformers:
    """Models of 2023, through the C library of ctransformers in an engine process. The neuron itself never loads it.

    `library` is its build for GPUs, as it was found on this host.
    """

    name = "ctransformers"
    problem: str | None = None
    other_gpus: tuple[str, ...] = ()
    backends: None = None

    def __init__(self, library: CudaLibrary = NO_CUDA) -> None:
        self._cuda = library

    def version(self) -> str | None:
        try:
            return metadata.version("ctransformers")
        except metadata.PackageNotFoundError:
            return None

    def cannot_serve(self, header: Header) -> str | None:
        if header.is_legacy:
            context = workspace(header).context
            return None if context >= LEAST_CONTEXT else f"its library's buffers have room for {context} tokens only"
        if reason := no_model(header):
            return reason
        if header.split:
            return "it takes models that are one file"
        if header.architecture != "llama":
            return f"of GGUF it serves llama models, and this is '{header.architecture}'"
        if header.tokenizer_model != "llama":
            return f"its llama has a SentencePiece vocabulary, and this file a '{header.tokenizer_model}' one"
        return None

    def processor_reason(self, header: Header | None = None) -> str | None:
        return self._cuda.problem or (cuda.uncovered(header) if header else None)

    def cannot_use(self, devices: Sequence[Device], cuda_version: str | None = None) -> str | None:
        return cuda.unusable(devices, cuda_version)

    def foreign_gpus(self, devices: Sequence[Device]) -> Mapping[int, str]:
        return cuda.BUILD.foreign(devices)

    def mode(self, header: Header, settings: LoadSettings) -> Mode:  # noqa: ARG002  all of its models generate
        if settings.mode not in (None, "chat"):
            raise _cannot("mode", f"{settings.mode} models")
        return "chat"

    def engine_spec(
        self,
        *,
        alias: str,
        files: ModelFiles,
        header: Header,
        settings: LoadSettings,
        host: HostShare,
        socket_path: Path,
    ) -> EngineSpec:
        _check_settings(settings, host)
        batch, context, work_bytes = workspace(header, _context(header, settings, host))
        layers = cuda.layers(header, settings.gpu_layers) if host.devices else 0
        spec = EngineSpec(
            harness=self.name,
            alias=alias,
            model_path=str(files.weights),
            socket_path=str(socket_path),
            mode=self.mode(header, settings),
            context=context,
            parallel=1,
            batch=batch,
            threads=min(settings.threads or max(1, host.cores - 1), host.cores),
            max_output_tokens=settings.max_output_tokens or min(defaults.OUTPUT_BOUND, context),
            output_cap=settings.max_output_tokens,
            kv_type="f32" if header.is_legacy and header.architecture in _F32_CACHES else "f16",
            chat_template=settings.chat_template,
            env=defaults.environment(layers, host),
            extras={"work_mb": -(-work_bytes // _MIB)},
        )
        if not layers:
            return spec
        return replace(spec, **self._cuda.on_gpu(header, layers, context, spec.kv_type, spec.extras["work_mb"]))

    def capabilities(self, header: Header, mode: Mode, *, vision: bool) -> tuple[str, ...]:  # noqa: ARG002  of the protocol
        return ("chat", "completions")

    def prepare(self, path: str, body: dict[str, Any], spec: EngineSpec) -> Prepared:
        check(path, body, spec)
        return Prepared(body)

    def engine_error(self, status: int, body: bytes) -> CortexError:
        """The engine's errors are ours already."""
        try:
            said = json.loads(body)["error"]
            fields = {name: said.pop(name, None) for name in ("message", "type", "code", "param")}
        except (ValueError, LookupError, TypeError, AttributeError):
            return errors.upstream_failed(f"the engine answered with status {status} and no reason")
        if status >= 500:
            return errors.upstream_failed(f"the engine failed: {fields['message']}", code="engine_failed")
        return CortexError(
            str(fields["message"]),
            status=status,
            type=str(fields["type"]),
            code=fields["code"],
            param=fields["param"],
            extras=said,
        )


# ---- settings


def _check_settings(settings: LoadSettings, host: HostShare) -> None:
    if len(host.devices) > 1:
        raise errors.invalid_request(
            f"the ctransformers harness computes on one GPU, and devices {list(host.devices)} were asked for: name one",
            param="devices",
        )
    wrong: Mapping[str, bool] = {
        "draft": settings.draft is not None,
        "mmproj": settings.mmproj not in (None, "none"),
        "pooling": settings.pooling is not None,
        "parallel": settings.parallel not in (None, 1),
        "kv_type": settings.kv_type not in (None, "f16"),
        "flash_attention": settings.flash_attention == "on",
    }
    for field, is_wrong in wrong.items():
        if is_wrong:
            raise _cannot(field, f"{field} = {getattr(settings, field)}")


def _cannot(field: str, what: str) -> CortexError:
    return errors.invalid_request(
        f"the ctransformers harness knows no {what}: it answers one request after the other, as its library of 2023 can",
        param=field,
    )


def _context(header: Header, settings: LoadSettings, host: HostShare) -> int:
    """What was asked for, within what the file and the library can; else the model's own, as far as memory allows."""
    most = _MOST_CONTEXT.get(header.architecture, header.context_length or UNBOUNDED_CONTEXT)
    if settings.context and settings.context > most:
        raise errors.invalid_request(
            f"context {settings.context} is more than the {most} tokens that are possible with this file",
            param="context",
        )
    if settings.context:
        return settings.context
    own = min(header.context_length or UNKNOWN_CONTEXT, defaults.CPU_CONTEXT)
    return min(own, host.fitting_context or own)

"""The llama.cpp harness at the neuron: which files it takes, how its engines are set up, and what they may be asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.engine.spec import EngineSpec, Mode
from cortex.neuron.gguf import Header
from cortex.neuron.hardware import support
from cortex.neuron.harness import generation, infill, server_binary, unsupported
from cortex.neuron.harness import llamacpp_errors as said
from cortex.neuron.harness import requests as rules
from cortex.neuron.harness import settings as defaults
from cortex.neuron.harness.allowed_tools import narrowed
from cortex.neuron.harness.answers.events import Fail
from cortex.neuron.harness.backends import Backends
from cortex.neuron.harness.base import HostShare, ModelFiles, Prepared
from cortex.neuron.harness.no_model import no_model
from cortex.neuron.harness.server_binary import ServerBinary
from cortex.wire.fleet import Device, LoadSettings


class LlamaCpp:
    """GGUF models, through xllamacpp in an engine process, or a llama-server of the operator's. The neuron itself never imports that library."""

    name = "llamacpp"

    def __init__(self, server: ServerBinary | None = None, backends: Backends | None = None) -> None:
        self._server = server
        self.backends = None if server else backends

    @property
    def problem(self) -> str | None:
        own = self._server or self.backends
        return own.problem if own else None

    @property
    def other_gpus(self) -> tuple[str, ...]:
        gpus = self._server.gpus if self._server else ()
        return tuple(gpu for gpu in gpus if not gpu.startswith("CUDA"))

    def version(self) -> str | None:
        if self._server:
            return f"llama-server {self._server.version or '(unusable)'}"
        try:
            return metadata.version("xllamacpp")
        except metadata.PackageNotFoundError:
            return None

    def cannot_serve(self, header: Header) -> str | None:
        if header.is_legacy:
            return f"it is a file of before GGUF ({header.container}), which llama.cpp reads no longer"
        return no_model(header)

    def processor_reason(self, header: Header | None = None) -> None:
        """It uses GPUs for whatever it serves."""

    def cannot_use(self, devices: Sequence[Device], cuda_version: str | None = None) -> str | None:
        own = self.backends
        if not devices:
            return support.no_gpu(own.cuda.version) if own and own.cuda else None
        if self._server:
            return server_binary.cuda_reason(self._server)
        if own and own.cuda:
            return support.backend_reason(devices, own.cuda.architectures, own.cuda.version, cuda_version)
        return (own and own.problem) or support.cuda_reason(devices, support.engine_flavour())

    def foreign_gpus(self, devices: Sequence[Device]) -> Mapping[int, str]:
        own = self.backends
        if self._server or not devices:
            return {}  # what a server of the operator's was compiled for, nobody tells
        if own and own.cuda:
            return support.of_backend(own.cuda.architectures).foreign(devices)
        return support.of_flavour(support.engine_flavour()).foreign(devices)

    def mode(self, header: Header, settings: LoadSettings) -> Mode:
        return defaults.mode_of(header, settings)

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
        spec = defaults.resolve(
            harness=self.name,
            alias=alias,
            files=files,
            header=header,
            settings=settings,
            host=host,
            socket_path=socket_path,
            external=self._server is not None,
        )
        if self._server is None:
            own = self.backends.paths(on_gpu=spec.gpu_layers != 0) if self.backends else {}
            return dataclasses.replace(spec, **own)
        return dataclasses.replace(spec, command=server_binary.command(self._server, spec, settings.server_args))

    def capabilities(self, header: Header, mode: Mode, *, vision: bool) -> tuple[str, ...]:
        if mode != "chat":
            return ("embeddings",) if mode == "embedding" else ("rerank",)
        tools = ("tools",) if "tools" in (header.chat_template or "") else ()
        return ("chat", "completions", *tools, *(("vision",) if vision else ()))

    def prepare(self, path: str, body: dict[str, Any], spec: EngineSpec) -> Prepared:
        route = _ROUTES.get(path)
        if route is None:
            return Prepared(body)
        if spec.mode != route.mode:
            raise _wrong_modality(path, spec)
        body = narrowed(body)
        route.check(body, spec)
        unsupported.refuse(body, route.unsupported)
        if route.generation is None:
            return Prepared(body)
        prepared = route.generation(_capped(body, spec), said.error_of)
        return dataclasses.replace(prepared, body=infill.filled(prepared.body, spec))

    def engine_error(self, status: int, body: bytes) -> CortexError:
        return said.error_answer(status, body)


# ---- requests


def _check_chat(body: dict[str, Any], spec: EngineSpec) -> None:
    rules.check_present(body, "messages")
    rules.check_messages(body["messages"], vision=spec.mmproj is not None)
    rules.check_tools(body.get("tools"))
    rules.check_fields(body, {**rules.CHAT, "n": rules.integer(1, spec.parallel)})
    if body.get("top_logprobs") and not body.get("logprobs"):
        raise rules.wrong("top_logprobs", "accompanied by logprobs = true")
    rules.check_tool_choice(body)


def _check_completions(body: dict[str, Any], spec: EngineSpec) -> None:
    rules.check_present(body, "prompt")
    rules.check_fields(body, {**rules.COMPLETIONS, "n": rules.integer(1, spec.parallel)})
    rules.check_echo(body, generation.prompts_of(body["prompt"]))
    infill.check(body, spec)


def _check_embeddings(body: dict[str, Any], _spec: EngineSpec) -> None:
    rules.check_present(body, "input")
    rules.check_fields(body, rules.EMBEDDINGS)


def _check_rerank(body: dict[str, Any], _spec: EngineSpec) -> None:
    rules.check_present(body, "query")
    rules.check_present(body, "documents")
    rules.check_fields(body, rules.RERANK)


@dataclass(frozen=True, slots=True)
class _Route:
    """A path of the engine. `generation`: how a request is put to it, where its answer is generated token by token."""

    mode: Mode
    check: Callable[[dict[str, Any], EngineSpec], None]
    unsupported: unsupported.Table
    generation: Callable[[dict[str, Any], Fail], Prepared] | None = None


_ROUTES: Mapping[str, _Route] = {
    "/v1/chat/completions": _Route("chat", _check_chat, unsupported.CHAT, generation.chat),
    "/v1/completions": _Route("chat", _check_completions, unsupported.COMPLETIONS, generation.completions),
    "/v1/embeddings": _Route("embedding", _check_embeddings, unsupported.EMBEDDINGS),
    "/v1/rerank": _Route("rerank", _check_rerank, {}),
}
_SERVED: Mapping[Mode, str] = {
    "chat": "chat and completions",
    "embedding": "embeddings",
    "rerank": "reranking",
}


def _wrong_modality(path: str, spec: EngineSpec) -> CortexError:
    return errors.invalid_request(
        f"model '{spec.alias}' serves {_SERVED[spec.mode]}, and not {path}",
        code="wrong_modality",
        param="model",
        status=422,
        model_id=spec.alias,
        suggestion=f"use a model for it, or load this one with another mode than '{spec.mode}'",
    )


def _capped(body: dict[str, Any], spec: EngineSpec) -> dict[str, Any]:
    """The operator's bound holds for every answer; the engine applies its own only where the request names none."""
    cap = spec.output_cap
    if cap is None:
        return body
    above = {
        field: cap for field in ("max_tokens", "max_completion_tokens", "n_predict") if (body.get(field) or 0) > cap
    }
    return {**body, **above} if above else body

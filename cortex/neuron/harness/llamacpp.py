"""The llama.cpp harness at the neuron: which files it takes, how its engines are set up, and what their server gets wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.engine.spec import EngineSpec, Mode
from cortex.neuron.gguf import Header
from cortex.neuron.harness import requests as rules
from cortex.neuron.harness import settings as defaults
from cortex.neuron.harness.base import HostShare, ModelFiles
from cortex.wire.fleet import LoadSettings

_MAX_MESSAGE = 500  # characters of an engine's own words that are passed on


class LlamaCpp:
    """GGUF models, through xllamacpp in an engine process. The neuron itself never imports that library."""

    name = "llamacpp"

    def version(self) -> str | None:
        try:
            return metadata.version("xllamacpp")
        except metadata.PackageNotFoundError:
            return None

    def cannot_serve(self, header: Header) -> str | None:
        if header.is_mmproj:
            return "it is the projector of a vision or audio model; load the model that it belongs to"
        if header.is_adapter:
            return "it is an adapter (LoRA), and no model by itself"
        if header.kind != "model" and not (header.split and header.split.number):
            return f"it holds '{header.kind}', and no model"
        if header.split and header.split.number:
            return f"it is part {header.split.number + 1} of {header.split.count}; load the first part"
        if not header.tensor_count:
            return "it has no weights (a vocabulary alone)"
        return None

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
        return defaults.resolve(
            harness=self.name,
            alias=alias,
            files=files,
            header=header,
            settings=settings,
            host=host,
            socket_path=socket_path,
        )

    def capabilities(self, header: Header, mode: Mode, *, vision: bool) -> tuple[str, ...]:
        if mode != "chat":
            return ("embeddings",) if mode == "embedding" else ("rerank",)
        tools = ("tools",) if "tools" in (header.chat_template or "") else ()
        return ("chat", "completions", *tools, *(("vision",) if vision else ()))

    def check_request(self, path: str, body: dict[str, Any], spec: EngineSpec) -> dict[str, Any]:
        route = _ROUTES.get(path)
        if route is None:
            return body
        needed, check = route
        if spec.mode != needed:
            raise _wrong_modality(path, spec)
        check(body, spec)
        return _mended(body, spec) if needed == "chat" else body

    def engine_error(self, status: int, body: bytes) -> CortexError:
        error = _error_object(body)
        if error is None:
            return errors.upstream_failed(f"the engine answered with status {status} and no reason")
        if error.get("type") == "exceed_context_size_error":
            return errors.context_length_exceeded(error.get("n_prompt_tokens", 0), error.get("n_ctx", 0))
        message = str(error.get("message") or f"the engine answered with status {status}")[:_MAX_MESSAGE]
        return _known_error(message) or _by_status(status, message)


# ---- requests


def _check_chat(body: dict[str, Any], spec: EngineSpec) -> None:
    rules.check_present(body, "messages")
    rules.check_messages(body["messages"], vision=spec.mmproj is not None)
    rules.check_fields(body, {**rules.CHAT, "n": rules.integer(1, spec.parallel)})
    if body.get("top_logprobs") and not body.get("logprobs"):
        raise rules.wrong("top_logprobs", "accompanied by logprobs = true")
    rules.check_named_tool(body)


def _check_completions(body: dict[str, Any], spec: EngineSpec) -> None:
    rules.check_present(body, "prompt")
    rules.check_fields(body, {**rules.COMPLETIONS, "n": rules.integer(1, spec.parallel)})


def _check_embeddings(body: dict[str, Any], _spec: EngineSpec) -> None:
    rules.check_present(body, "input")
    rules.check_fields(body, rules.EMBEDDINGS)


def _check_rerank(body: dict[str, Any], _spec: EngineSpec) -> None:
    rules.check_present(body, "query")
    rules.check_present(body, "documents")
    rules.check_fields(body, rules.RERANK)


_ROUTES: Mapping[str, tuple[Mode, Callable[[dict[str, Any], EngineSpec], None]]] = {
    "/v1/chat/completions": ("chat", _check_chat),
    "/v1/completions": ("chat", _check_completions),
    "/v1/embeddings": ("embedding", _check_embeddings),
    "/v1/rerank": ("rerank", _check_rerank),
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


def _mended(body: dict[str, Any], spec: EngineSpec) -> dict[str, Any]:
    """The operator's bound holds for every answer; the engine applies its own only where the request names none."""
    cap = spec.output_cap
    if cap is None:
        return body
    above = {
        field: cap for field in ("max_tokens", "max_completion_tokens", "n_predict") if (body.get(field) or 0) > cap
    }
    return {**body, **above} if above else body


# ---- errors


def _error_object(body: bytes) -> dict[str, Any] | None:
    try:
        error = json.loads(body).get("error")
    except (ValueError, AttributeError):
        return None
    return error if isinstance(error, dict) else None


def _template_failed(found: re.Match[str]) -> CortexError:
    return errors.invalid_request(
        f"the model's chat template does not take these messages: {found.group(1)}",
        code="template_render_failed",
        param="messages",
        status=422,
    )


def _no_vision(found: re.Match[str]) -> CortexError:
    return errors.invalid_request(
        f"this model takes no {found.group(1)} input", code="vision_unsupported", param="messages"
    )


# What the engine says → what a client is to hear. It calls several of the caller's mistakes its own (500).
_KNOWN: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], CortexError]], ...] = (
    (re.compile(r"^(\w+) input is not supported"), _no_vision),
    (
        re.compile(r"^input \((\d+) tokens\) is too large to process.*size: (\d+)\)"),
        lambda found: errors.context_length_exceeded(int(found.group(1)), int(found.group(2))),
    ),
    (re.compile(r"Jinja Exception: (.*)"), _template_failed),
    (
        re.compile(r"^Failed to parse (messages|tools): (.*)", re.DOTALL),
        lambda found: errors.invalid_request(
            f"'{found.group(1)}' is not right: {found.group(2)}", param=found.group(1)
        ),
    ),
    (
        re.compile(r"^Field '(\w+)': (?:\[json\.exception[^\]]*\] )?(.*)"),
        lambda found: errors.invalid_request(
            f"'{found.group(1)}' is not right: {found.group(2)}", param=found.group(1)
        ),
    ),
    (
        re.compile(r"does not support (embeddings|reranking|chat|completion)"),
        lambda found: errors.invalid_request(
            f"this model was not loaded for {found.group(1)}", code="wrong_modality", param="model", status=422
        ),
    ),
)


def _known_error(message: str) -> CortexError | None:
    for pattern, make in _KNOWN:
        if found := pattern.search(message):
            return make(found)
    return None


def _by_status(status: int, message: str) -> CortexError:
    if status == 503:
        return errors.unavailable(f"the model is not ready: {message}", retry_after=2)
    if status in (404, 405):
        return errors.not_found("the model's engine has no such endpoint")
    if 400 <= status < 500:
        return errors.invalid_request(message)
    if status == 501:
        return errors.invalid_request(message, code="unsupported_parameter")
    return errors.upstream_failed(f"the engine failed: {message}", code="engine_failed")

"""What this gateway serves, as `GET /openapi.json` tells it. Imported when it is asked for."""

from __future__ import annotations

import functools
from typing import get_args

from cortex.config.gateway import WaitPolicy
from cortex.gateway.api.admin import AdminLoad, AdminUnload
from cortex.gateway.api.push import PushRequest
from cortex.gateway.proxy.call import WAIT_HEADER
from cortex.wire.openapi import anthropic, chat, errors, fleet, ollama, responses
from cortex.wire.openapi.operation import ASKING, Answer, Dialect, Document, Operation, document, parameter
from cortex.wire.openapi.schema import NAME, NUMBER, TEXT, Schema, at_least, of_models, within, word

_SCHEMAS = {
    **errors.SCHEMAS,
    **chat.SCHEMAS,
    **anthropic.SCHEMAS,
    **responses.SCHEMAS,
    **ollama.SCHEMAS,
    **fleet.SCHEMAS,
    **of_models(AdminLoad, AdminUnload, PushRequest),
}
_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, where the gateway wants one"},
    "api_key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The same, as Anthropic's clients",
    },
}
_WAIT_POLICY = parameter(
    "header", WAIT_HEADER, word(*get_args(WaitPolicy)), "What is to happen while the model is not loaded"
)
_VERSION = parameter("header", "anthropic-version", TEXT, "Any; nothing depends on it")
_BETA = parameter("header", "anthropic-beta", TEXT, "Any; nothing depends on it")
_PAGE = (
    parameter("query", "limit", at_least(1), "Without it: all"),
    parameter("query", "after_id", NAME),
    parameter("query", "before_id", NAME),
)
_ITEM_PAGE = (
    parameter("query", "limit", within(1, 100, "integer"), "Without it: 20"),
    parameter("query", "after", NAME),
    parameter("query", "order", word("asc", "desc"), "Without it: the newest first"),
)
_LOAD = (404, 409, 422, 429, 502, 503, 504, 507)


def _get(path: str, summary: str, answer: str, *parameters: Schema, dialect: Dialect = "OpenAi") -> Operation:
    missing = (404,) if "{" in path else ()
    return Operation(
        "GET",
        path,
        summary,
        "ollama" if dialect == "Ollama" else "gateway",
        {200: Answer(answer)},
        parameters=parameters,
        errors=missing,
        dialect=dialect,
    )


def _ask(
    path: str, summary: str, body: str, answer: Answer, *parameters: Schema, dialect: Dialect = "OpenAi"
) -> Operation:
    """A question to a model."""
    more = (_WAIT_POLICY, *parameters)
    return Operation(
        "POST",
        path,
        summary,
        dialect.lower(),
        {200: answer},
        body,
        parameters=more,
        errors=(*ASKING, 507),
        dialect=dialect,
    )


_INFERENCE = (
    _ask("/v1/chat/completions", "Answer a chat", "ChatRequest", Answer("ChatCompletion", events="ChatChunk")),
    _ask("/v1/completions", "Continue a text", "CompletionRequest", Answer("Completion", events="Completion")),
    _ask("/v1/embeddings", "Texts as vectors", "EmbeddingsRequest", Answer("Embeddings")),
    _ask("/v1/rerank", "Order documents by a query", "RerankRequest", Answer("Ranking")),
    _ask(
        "/v1/responses",
        "Answer, in OpenAI's newer form",
        "ResponsesRequest",
        Answer("Response", events="ResponseEvent"),
    ),
    _ask("/v1/chat/completions/input_tokens", "Count a chat's tokens", "ChatRequest", Answer("InputTokens")),
    _ask("/tokenize", "Split a text", "TokenizeRequest", Answer("Tokens")),
    _ask("/detokenize", "Join tokens", "DetokenizeRequest", Answer("Detokenized")),
    _ask("/apply-template", "What a model would read of a chat", "ChatRequest", Answer("Prompt")),
)
_STORED = parameter("path", "response_id", NAME)
_STORE = (
    Operation(
        "GET",
        "/v1/responses/{response_id}",
        "An answer that was kept",
        "openai",
        {200: Answer("Response")},
        parameters=(_STORED,),
        errors=(404, 503),
    ),
    Operation(
        "DELETE",
        "/v1/responses/{response_id}",
        "Forget it",
        "openai",
        {200: Answer("DeletedResponse")},
        parameters=(_STORED,),
        errors=(404, 503),
    ),
    Operation(
        "GET",
        "/v1/responses/{response_id}/input_items",
        "What it answered",
        "openai",
        {200: Answer("InputItems")},
        parameters=(_STORED, *_ITEM_PAGE),
        errors=(404, 503),
    ),
)
_ANTHROPIC = (
    _ask(
        "/v1/messages",
        "Answer, in Anthropic's form",
        "MessagesRequest",
        Answer("Message", events="MessageEvent"),
        _VERSION,
        _BETA,
        dialect="Anthropic",
    ),
    _ask(
        "/v1/messages/count_tokens",
        "Count a message's tokens",
        "CountTokensRequest",
        Answer("CountedTokens"),
        _VERSION,
        _BETA,
        dialect="Anthropic",
    ),
)
_OLLAMA = (
    _get("/api/version", "The version of Ollama's API", "OllamaVersion", dialect="Ollama"),
    _get("/api/tags", "What can be asked for", "OllamaTags", dialect="Ollama"),
    _get("/api/ps", "What is in memory", "OllamaRunning", dialect="Ollama"),
    *(
        _ask(f"/api/{path}", summary, f"Ollama{name}Request", answer, dialect="Ollama")
        for path, summary, name, answer in (
            ("chat", "Answer a chat", "Chat", Answer("OllamaChat", lines="OllamaChatLine")),
            ("generate", "Answer a prompt", "Generate", Answer("OllamaGenerate", lines="OllamaGenerateLine")),
            ("embed", "Texts as vectors", "Embed", Answer("OllamaEmbed")),
            ("embeddings", "A text as a vector", "Embeddings", Answer("OllamaEmbeddings")),
            ("show", "A model", "Show", Answer("OllamaShown")),
        )
    ),
)
_PUBLIC = tuple(
    Operation(method, path, "Whether it is up, and its fleet", "gateway", {200: answer}, public=True)
    for path in ("/", "/health", "/api/hello")
    for method, answer in (("GET", Answer("FleetHealth")), ("HEAD", Answer()))
)
_FLEET = (
    _get("/v1/models", "Everything that can be asked for", "ModelList", *_PAGE, _VERSION),
    _get("/v1/models/{model_id}", "One of them", "Model", parameter("path", "model_id", NAME, "May contain slashes")),
    _get("/version", "What runs here", "Version"),
    _get("/status", "The fleet in full", "FleetStatus"),
    _get("/openapi.json", "This document", "OpenApi"),
    _get(
        "/plan",
        "What would happen to a request, and why",
        "Plan",
        parameter("query", "model", NAME) | {"required": True},
    ),
    _get(
        "/jobs/{job_id}",
        "A load or a copy",
        "Job",
        parameter("path", "job_id", NAME),
        parameter("query", "node", NAME, "Where it runs, if that is known"),
        parameter("query", "wait", NUMBER, "Seconds to wait for its end, at most 60"),
    ),
)
_BY_HAND = (
    Operation(
        "POST",
        "/models/load",
        "Load a model; with `wait` false only begin it",
        "by hand",
        {200: Answer("Loaded"), 202: Answer("Loading")},
        "AdminLoad",
        errors=_LOAD,
    ),
    Operation(
        "POST",
        "/models/push",
        "Copy a model's files to a neuron that has none; with `wait` false only begin it",
        "by hand",
        {200: Answer("Pushed"), 202: Answer("Pushing")},
        "PushRequest",
        errors=(404, 409, 422, 502, 503, 507),
    ),
    Operation(
        "POST",
        "/models/unload",
        "Unload a model, everywhere or from one node",
        "by hand",
        {200: Answer("Unloaded")},
        "AdminUnload",
        errors=(404, 409, 422, 502, 503),
    ),
    *(
        Operation(
            "POST",
            f"/nodes/{{name}}/{what}",
            summary,
            "by hand",
            {200: Answer("Drained")},
            parameters=(parameter("path", "name", NAME),),
            errors=(404, 502),
        )
        for what, summary in (("drain", "Let a neuron finish, and take nothing new"), ("undrain", "Let it work again"))
    ),
    *(
        Operation(
            "POST",
            f"/neurons/{what}",
            f"A neuron {what}s; it shows the token that gateways and neurons share",
            "neurons",
            {200: Answer("Joined")},
            "Announcement",
            errors=(409, 422, 503),
        )
        for what in ("join", "leave")
    ),
)


@functools.cache
def description() -> Document:
    told = "OpenAI's, Anthropic's and Ollama's APIs in front of a fleet of models."
    return document(
        "gateway", told, (*_INFERENCE, *_STORE, *_ANTHROPIC, *_OLLAMA, *_PUBLIC, *_FLEET, *_BY_HAND), _SCHEMAS, _KEYS
    )

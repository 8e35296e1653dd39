"""What this neuron serves, as `GET /openapi.json` tells it. Imported when it is asked for."""

from __future__ import annotations

import functools

from cortex.wire.openapi import chat, errors, fleet
from cortex.wire.openapi.operation import ASKING, Answer, Document, Operation, document, parameter
from cortex.wire.openapi.schema import FLAG, NAME, NUMBER

_SCHEMAS = {**errors.SCHEMAS, **chat.SCHEMAS, **fleet.SCHEMAS}
_KEYS = {"token": {"type": "http", "scheme": "bearer", "description": "The neuron's token, where it has one"}}
_MODEL = parameter("path", "model_id", NAME, "May contain slashes")
_WAIT = parameter("query", "wait", NUMBER, "Seconds to wait for its end, at most 60")
_ALL = parameter("query", "all", FLAG, "Also what is on disk, and what failed")
_SHA256 = parameter("path", "sha256", NAME, "Of the file's content")
_LOAD = (404, 409, 422, 429, 502, 503, 507)


def _get(path: str, summary: str, answer: str, *parameters: dict[str, object], public: bool = False) -> Operation:
    missing = (404,) if "{" in path else ()
    return Operation(
        "GET", path, summary, "neuron", {200: Answer(answer)}, parameters=parameters, errors=missing, public=public
    )


def _post(path: str, summary: str, body: str, answer: Answer) -> Operation:
    return Operation("POST", path, summary, "inference", {200: answer}, body, errors=ASKING)


_OPERATIONS = (
    _post("/v1/chat/completions", "Answer a chat", "ChatRequest", Answer("ChatCompletion", events="ChatChunk")),
    _post("/v1/completions", "Continue a text", "CompletionRequest", Answer("Completion", events="Completion")),
    _post("/v1/embeddings", "Texts as vectors", "EmbeddingsRequest", Answer("Embeddings")),
    _post("/v1/rerank", "Order documents by a query", "RerankRequest", Answer("Ranking")),
    _post("/v1/chat/completions/input_tokens", "Count a chat's tokens", "ChatRequest", Answer("InputTokens")),
    _post("/tokenize", "Split a text", "TokenizeRequest", Answer("Tokens")),
    _post("/detokenize", "Join tokens", "DetokenizeRequest", Answer("Detokenized")),
    _post("/apply-template", "What a model would read of a chat", "ChatRequest", Answer("Prompt")),
    _get("/v1/models", "What is in memory or on its way", "ModelList"),
    _get("/v1/models/{model_id}", "One of them", "Model", _MODEL),
    _get("/health", "How the host is; with a token and without it shown, only that it is up", "Health", public=True),
    _get("/discovery", "The host's constant facts", "Discovery"),
    _get("/version", "What runs here", "Version"),
    Operation("GET", "/metrics", "Figures for Prometheus", "neuron", {200: Answer(plain=True)}),
    _get("/openapi.json", "This document", "OpenApi"),
    _get("/models", "What is in memory or on its way", "Models", _ALL),
    _get("/models/{model_id}/endpoint", "Where a loaded model answers", "Endpoint", _MODEL),
    Operation(
        "GET",
        "/models/{model_id}/files",
        "What a model's files are, for a neuron that has none",
        "files",
        {200: Answer("Offer"), 202: Answer("Hashing")},
        parameters=(_MODEL,),
        errors=(404, 500),
    ),
    Operation(
        "POST",
        "/models/{model_id}/files",
        "Announce files that are to come here, or ask what of them is here",
        "files",
        {202: Answer("Receiving")},
        "Receive",
        parameters=(_MODEL,),
        errors=(409, 500, 503, 507),
    ),
    Operation(
        "GET",
        "/models/{model_id}/files/{sha256}",
        "A piece of a file that was offered",
        "files",
        {206: Answer(octets=True)},
        parameters=(_MODEL, _SHA256, parameter("header", "range", NAME)),
        errors=(404, 409, 416, 500),
    ),
    Operation(
        "PUT",
        "/models/{model_id}/files/{sha256}",
        "The next piece of a file that was announced",
        "files",
        {200: Answer("Arrived")},
        parameters=(
            _MODEL,
            _SHA256,
            parameter("header", "content-range", NAME),
            parameter("header", "content-digest", NAME),
        ),
        errors=(404, 409, 500, 503, 507),
    ),
    _get("/jobs", "Loads that run or have ended", "Jobs"),
    _get("/jobs/{job_id}", "One of them", "Job", parameter("path", "job_id", NAME), _WAIT),
    Operation(
        "POST",
        "/models/load",
        "Load a model, or join its load; with `wait` false only begin it",
        "neuron",
        {200: Answer("Loaded"), 202: Answer("Loading")},
        "LoadRequest",
        errors=_LOAD,
    ),
    Operation(
        "POST",
        "/models/unload",
        "Unload a model",
        "neuron",
        {200: Answer("Unloaded")},
        "UnloadRequest",
        errors=(404, 409, 422),
    ),
    Operation(
        "POST",
        "/models/keep",
        "Say for how many idle seconds a loaded model stays",
        "neuron",
        {200: Answer("KeptModel")},
        "KeepRequest",
        errors=(404, 422),
    ),
    Operation(
        "POST",
        "/models/yield",
        "Have a model take nothing new for a while, so that another one gets its place",
        "neuron",
        {200: Answer("Yielding")},
        "YieldRequest",
        errors=(404, 422),
    ),
    Operation("POST", "/drain", "Take nothing new", "neuron", {200: Answer("Drained")}),
    Operation("POST", "/undrain", "Take requests again", "neuron", {200: Answer("Drained")}),
)


@functools.cache
def description() -> Document:
    return document("neuron", "One host's models.", _OPERATIONS, _SCHEMAS, _KEYS)

"""Ollama's API, as `wire.ollama` reads and writes it."""

from __future__ import annotations

from cortex.wire.ollama.request import INTEGERS, NUMBERS
from cortex.wire.openapi.schema import (
    COUNT,
    FLAG,
    INTEGER,
    NAME,
    NUMBER,
    OBJECT,
    TEXT,
    Schemas,
    array,
    asked,
    at_least,
    either,
    ref,
    said,
    word,
)

# ---- requests

_DURATION = {
    "type": "string",
    "pattern": r"^(-?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+|-?[0-9]+)$",
    "examples": ["5m", "-1", "1.5h"],
}
_KEEP_ALIVE = either(NUMBER, _DURATION)
_STOP = either(NAME, array(NAME))
_INT64 = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
_OPTIONS = asked(
    {},
    {
        **dict.fromkeys(NUMBERS, NUMBER),
        **dict.fromkeys(INTEGERS, _INT64),
        "num_predict": at_least(-2),
        "stop": _STOP,
    },
)
_SHARED: Schemas = {
    "stream": {**FLAG, "default": True},
    "think": either(FLAG, word("low", "medium", "high")),
    "format": either(word("json"), OBJECT),
    "options": _OPTIONS,
    "keep_alive": _KEEP_ALIVE,
}
_CALL = asked({"function": asked({"name": NAME, "arguments": OBJECT})}, {"id": TEXT})
_MESSAGE = asked(
    {"role": word("system", "user", "assistant", "tool")},
    {
        "content": TEXT,
        "thinking": TEXT,
        "images": array(NAME),
        "tool_calls": array(_CALL),
        "tool_name": TEXT,
        "tool_call_id": TEXT,
    },
)
_REQUESTS: Schemas = {
    "OllamaChatRequest": asked({"model": NAME}, {"messages": array(_MESSAGE), "tools": array(OBJECT), **_SHARED}),
    "OllamaGenerateRequest": asked(
        {"model": NAME},
        {"prompt": TEXT, "suffix": TEXT, "system": TEXT, "raw": FLAG, "images": array(NAME), **_SHARED},
    ),
    "OllamaEmbedRequest": asked(
        {"model": NAME, "input": either(TEXT, array(TEXT, least=1))},
        {"dimensions": at_least(1), "keep_alive": _KEEP_ALIVE},
    ),
    "OllamaEmbeddingsRequest": asked({"model": NAME, "prompt": TEXT}, {"keep_alive": _KEEP_ALIVE}),
    "OllamaShowRequest": asked({"model": NAME}, {}),
}

# ---- answers

_ENDED: Schemas = {
    "done_reason": word("stop", "length", "load", "unload"),
    "total_duration": INTEGER,
    "load_duration": INTEGER,
    "prompt_eval_count": COUNT,
    "prompt_eval_duration": INTEGER,
    "eval_count": COUNT,
    "eval_duration": INTEGER,
}
_SAID: Schemas = {"model": NAME, "created_at": NAME, "done": FLAG}
_DETAILS = said({"format": TEXT, "family": TEXT, "parameter_size": TEXT, "quantization_level": TEXT})
_LISTED: Schemas = {"name": NAME, "model": NAME, "size": COUNT, "digest": NAME, "details": _DETAILS}
_ANSWERED = said({"role": word("assistant"), "content": TEXT}, {"thinking": TEXT, "tool_calls": array(_CALL)})
_ANSWERS: Schemas = {
    "OllamaChat": said({**_SAID, "message": _ANSWERED}, _ENDED),
    "OllamaChatLine": either(ref("OllamaChat"), ref("OllamaError")),
    "OllamaGenerate": said({**_SAID, "response": TEXT}, {"thinking": TEXT, **_ENDED}),
    "OllamaGenerateLine": either(ref("OllamaGenerate"), ref("OllamaError")),
    "OllamaEmbed": said({"model": NAME, "embeddings": array(array(NUMBER))}, {"prompt_eval_count": COUNT}),
    "OllamaEmbeddings": said({"embedding": array(NUMBER)}),
    "OllamaVersion": said({"version": NAME}),
    "OllamaTags": said({"models": array(said({**_LISTED, "modified_at": NAME}))}),
    "OllamaRunning": said({"models": array(said({**_LISTED, "expires_at": NAME, "size_vram": COUNT}))}),
    "OllamaShown": said({"details": _DETAILS, "model_info": OBJECT, "capabilities": array(TEXT)}),
}

SCHEMAS: Schemas = {**_REQUESTS, **_ANSWERS}

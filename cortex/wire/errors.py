"""A CortexError as the bytes of a client's dialect: OpenAI's and Anthropic's error bodies, whole and inside a stream."""

from __future__ import annotations

import math
from typing import Any

import orjson

from cortex.errors import CortexError


def openai_body(error: CortexError) -> dict[str, Any]:
    """`{"error": {"message", "type", "code", "param", …extras}}`"""
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "code": error.code,
            "param": error.param,
            **error.extras,
        }
    }


def ollama_body(error: CortexError) -> dict[str, Any]:
    """`{"error": "text"}`"""
    return {"error": error.message}


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def anthropic_body(error: CortexError, request_id: str) -> dict[str, Any]:
    """`{"type": "error", "error": {"type", "message"}, "request_id"}`; an overflow begins "prompt is too long", which clients look for."""
    fallback = "invalid_request_error" if 400 <= error.status < 500 else "api_error"
    message = f"prompt is too long: {error.message}" if error.code == "context_length_exceeded" else error.message
    return {
        "type": "error",
        "error": {"type": _ANTHROPIC_TYPES.get(error.status, fallback), "message": message},
        "request_id": request_id,
    }


def retry_after_header(error: CortexError) -> dict[str, str]:
    """Whole seconds, at least one; empty for permanent errors."""
    return {} if error.retry_after is None else {"retry-after": str(max(1, math.ceil(error.retry_after)))}


def openai_event(error: CortexError) -> bytes:
    """The event that ends a broken chat or completions stream: the official SDKs raise APIError on it."""
    return b"data: " + orjson.dumps(openai_body(error)) + b"\n\n"


_STATUS_OF_CODE = {
    "invalid_api_key": 401,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "service_unavailable": 503,
    "insufficient_vram": 503,
    "shutting_down": 503,
    "upstream_timeout": 504,
}
_STATUS_OF_TYPE = {"invalid_request_error": 400, "rate_limit_error": 429}


def error_of(said: Any) -> CortexError:
    """The `error` of an OpenAI stream's event, as ours. It has no status of its own: its code, else its type, tells it."""
    fields = said if isinstance(said, dict) else {"message": said}
    code = fields.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else _STATUS_OF_CODE.get(str(code))
    status = status or _STATUS_OF_TYPE.get(str(fields.get("type")), 502)
    overflow = code == "context_length_exceeded" or fields.get("type") == "exceed_context_size_error"
    message = fields.get("message")
    return CortexError(
        message if isinstance(message, str) and message else "the model failed without a reason",
        status=400 if overflow else status,
        type="invalid_request_error" if 400 <= status < 429 else str(fields.get("type") or "api_error"),
        code="context_length_exceeded" if overflow else code if isinstance(code, str) else None,
        retry_after=5 if status in (429, 503) else None,
    )

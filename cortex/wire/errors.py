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

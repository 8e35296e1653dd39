"""A CortexError in a client's dialect, whole or as a stream's last event; and an error that somebody else told, as ours.

What the codes mean is `wire.error_table`. How a Response tells its failure is `wire.responses.failure`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import orjson

from cortex.errors import CortexError
from cortex.wire.error_table import ROWS, SOON_S, Row, type_of
from cortex.wire.fields import can_be_sent

Dialect = Literal["openai", "anthropic", "ollama"]


def dialect_of(path: str) -> Dialect:
    """Who asks at a path expects errors of this form."""
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "ollama" if path.startswith("/api/") else "openai"


def error_body(error: CortexError, dialect: Dialect, request_id: str) -> dict[str, Any]:
    match dialect:
        case "anthropic":
            return anthropic_body(error, request_id)
        case "ollama":
            return ollama_body(error)
        case "openai":
            return openai_body(error)


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


# ---- what others tell

_STATUS_OF_TYPE = {"invalid_request_error": 400, "rate_limit_error": 429, "insufficient_quota": 429, "api_error": 502}
_OURS = frozenset({"message", "type", "code", "param"})


def error_of(said: Any, status: int | None = None) -> CortexError:
    """What a neuron, a stream or a load's end tells of an error, as ours: an object as OpenAI's, or a text.

    `status`: that of its answer. Without one its code tells it, which is a number for llama.cpp, else its type; 502 where nothing does.
    """
    fields = said if isinstance(said, dict) else {"message": said}
    code, kind, message = (fields.get(name) for name in ("code", "type", "message"))
    if kind == "exceed_context_size_error":
        code = "context_length_exceeded"
    row = ROWS.get(code) if isinstance(code, str) else None
    status = status or (row.status if row else _status_of(code, kind))
    return CortexError(
        message if isinstance(message, str) and message else f"it failed without a reason (status {status})",
        status=status,
        type=kind if isinstance(kind, str) and kind in _STATUS_OF_TYPE else type_of(status),
        code=code if isinstance(code, str) else None,
        param=param if isinstance(param := fields.get("param"), str) else None,
        retry_after=_retry_after(row, status),
        extras={name: value for name, value in fields.items() if name not in _OURS and can_be_sent(value)},
    )


def _status_of(code: Any, kind: Any) -> int:
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return _STATUS_OF_TYPE.get(kind, 502) if isinstance(kind, str) else 502


def _retry_after(row: Row | None, status: int) -> float | None:
    if row and row.status == status:
        return row.retry_after
    return SOON_S if status in (429, 503) else None

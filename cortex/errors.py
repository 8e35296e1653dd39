"""What can go wrong, as data: every error knows its HTTP status, type, code and whether trying again can help.

No framework and no I/O here. `wire.errors` renders a CortexError in the client's dialect, `web` is the only place that
sends one. The table is DESIGN section 7 (statuses and codes of the first generation, kept).

A *retryable* error carries `retry_after` (seconds) and is sent with a `Retry-After` header; a permanent one never does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class CortexError(Exception):
    """An error that a client may see.

    message      one sentence: what was wrong, where, and what would be right; never a secret, never a file of ours
    status       HTTP status
    type, code   OpenAI's `error.type` and `error.code`
    param        the request field at fault, if one is
    retry_after  seconds after which trying again is reasonable; None for a permanent error
    extras       further fields of the error object, numbers for a program to act on
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type: str = "api_error",  # noqa: A002  OpenAI's own field name
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        extras: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.extras = dict(extras or {})

    def again(self) -> CortexError:
        """The same error, for one more raise: one that is kept would keep the frames, and so the requests, of all who raised it."""
        return CortexError(
            self.message,
            status=self.status,
            type=self.type,
            code=self.code,
            param=self.param,
            retry_after=self.retry_after,
            extras=self.extras,
        )

    def __repr__(self) -> str:
        return f"<CortexError {self.status} {self.code or self.type}: {self.message}>"


# ---- the caller's mistakes: permanent


def invalid_request(
    message: str, *, code: str | None = None, param: str | None = None, status: int = 400, **extras: Any
) -> CortexError:
    """400 (or a given 4xx) `invalid_request_error`."""
    return CortexError(message, status=status, type="invalid_request_error", code=code, param=param, extras=extras)


def malformed_json(detail: str) -> CortexError:
    return invalid_request(f"the request body is not valid JSON: {detail}", code="malformed_json")


def missing_model_field() -> CortexError:
    return invalid_request(
        "missing 'model' field in request body: it must be a string", code="missing_model_field", param="model"
    )


def body_too_large(limit_bytes: int) -> CortexError:
    return invalid_request(
        f"the request body is larger than the {limit_bytes} bytes accepted here",
        code="body_too_large",
        status=413,
        max_bytes=limit_bytes,
    )


def model_not_found(model: str, where: str = "on any node") -> CortexError:
    return invalid_request(
        f"model '{model}' not found {where}", code="model_not_found", param="model", status=404, model_id=model
    )


def not_found(message: str) -> CortexError:
    return invalid_request(message, code="not_found", status=404)


def context_length_exceeded(prompt_tokens: int, limit: int) -> CortexError:
    return invalid_request(
        f"This model's maximum context length is {limit} tokens, but the request has {prompt_tokens} tokens",
        code="context_length_exceeded",
        param="messages",
        max=limit,
        prompt_len=prompt_tokens,
    )


def unauthorized(message: str) -> CortexError:
    """401; `web` adds the `WWW-Authenticate` that belongs to it."""
    return invalid_request(message, code="invalid_api_key", status=401)


def forbidden(message: str, *, param: str | None = None) -> CortexError:
    """403: the key is known, and may not do this."""
    return invalid_request(message, code="permission_denied", status=403, param=param)


# ---- capacity and lifecycle: retryable


def over_capacity(message: str, *, retry_after: float) -> CortexError:
    """429: the model's queue is full, or the wait in it was too long."""
    return CortexError(
        message, status=429, type="rate_limit_error", code="rate_limit_exceeded", retry_after=retry_after
    )


def unavailable(
    message: str, *, retry_after: float = 5, code: str = "service_unavailable", **extras: Any
) -> CortexError:
    """503: it cannot be served now, but may be soon."""
    return CortexError(message, status=503, code=code, retry_after=retry_after, extras=extras)


def insufficient_vram(message: str, *, free_mb: int | None, required_mb: int | None, **extras: Any) -> CortexError:
    return unavailable(message, code="insufficient_vram", free_mb=free_mb, required_mb=required_mb, **extras)


def shutting_down() -> CortexError:
    return unavailable("this server is shutting down and takes no new requests", code="shutting_down", retry_after=15)


def draining() -> CortexError:
    return unavailable("this neuron is being drained and takes nothing new", code="draining", retry_after=5)


# ---- what stands behind us failed


def upstream_failed(message: str, *, code: str = "upstream_connection_error") -> CortexError:
    """502: a neuron or an engine broke off or answered nonsense."""
    return CortexError(message, status=502, code=code, retry_after=2)


def upstream_stalled(idle_s: float) -> CortexError:
    """504: an open answer brought nothing for the whole idle time-out."""
    return CortexError(f"the model sent nothing for {idle_s:g} s", status=504, code="upstream_timeout", retry_after=5)


def internal() -> CortexError:
    """500, without a word about the inside: the log has the rest under the request's id."""
    return CortexError(
        "internal error; the server's log has the details under this request's id",
        status=500,
        code="internal_server_error",
    )

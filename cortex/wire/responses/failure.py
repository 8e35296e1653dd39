"""An error as a Response tells it. Codex acts on the codes: it compacts, waits as long as the text says, or gives up."""

from __future__ import annotations

import math

from cortex.errors import CortexError

_KEPT = ("context_length_exceeded", "insufficient_quota")


def failure_of(error: CortexError) -> dict[str, str]:
    """`{"code", "message"}`. What can be retried says when: "try again in 5s"."""
    message = error.message
    if error.retry_after is not None:
        message = f"{message.rstrip('.')}. Please try again in {max(1, math.ceil(error.retry_after))}s."
    return {"code": _code(error), "message": message}


def _code(error: CortexError) -> str:
    for kept in _KEPT:
        if kept in (error.code, error.type):
            return kept
    if error.status == 429 or error.code == "rate_limit_exceeded":
        return "rate_limit_exceeded"
    return "invalid_prompt" if 400 <= error.status < 500 else "server_error"

"""What llama.cpp's server says when it fails → what a client is to hear. It calls several of the caller's mistakes its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from cortex import errors
from cortex.errors import CortexError

_MAX_MESSAGE = 500  # characters of an engine's own words that are passed on


def error_answer(status: int, body: bytes) -> CortexError:
    """An answer whose status is an error."""
    error = _error_object(body)
    if error is None:
        return errors.upstream_failed(f"the engine answered with status {status} and no reason")
    return error_of({**error, "code": status})


def error_of(error: Mapping[str, Any]) -> CortexError:
    """An error object, from an answer or from the middle of a stream: its numeric `code` is an HTTP status."""
    status = error["code"] if isinstance(error.get("code"), int) else 500
    if error.get("type") == "exceed_context_size_error":
        return errors.context_length_exceeded(error.get("n_prompt_tokens", 0), error.get("n_ctx", 0))
    message = str(error.get("message") or f"the engine answered with status {status}")[:_MAX_MESSAGE]
    return _known_error(message) or _by_status(status, message)


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


def _context_full(_found: re.Match[str]) -> CortexError:
    return errors.unavailable("the context that this model's requests share is full: another one needs it now")


_KNOWN: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], CortexError]], ...] = (
    (re.compile(r"^(\w+) input is not supported"), _no_vision),
    (re.compile(r"^Context size has been exceeded"), _context_full),
    (
        re.compile(r"^input \((\d+) tokens\) is too large to process.*size: (\d+)\)"),
        lambda found: errors.context_length_exceeded(int(found.group(1)), int(found.group(2))),
    ),
    (re.compile(r"Jinja Exception: (.*)"), _template_failed),
    (
        re.compile(r"^Failed to parse tool call arguments as JSON: (?:\[json\.exception[^\]]*\] )?(.*)", re.DOTALL),
        lambda found: errors.invalid_request(
            f"messages: the 'arguments' of a tool call are not JSON: {found.group(1)}", param="messages"
        ),
    ),
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

"""The Response object: an echo of the request with what the vendor's schema requires, the output, and usage."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cortex.errors import CortexError
from cortex.wire.chat.answer import read_answer
from cortex.wire.chat.deltas import Usage
from cortex.wire.responses.failure import failure_of
from cortex.wire.responses.output import Item, Outputs
from cortex.wire.responses.tools import names_by_function

Clock = Callable[[], float]
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_SUMMARIES = ("auto", "concise", "detailed")
# Echoed as they were sent, else as they are by default.
_ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "store": False,
    "temperature": 1.0,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1.0,
    "user": None,
}


def new_id() -> str:
    return f"resp_{uuid.uuid4().hex}"


class ResponseDraft:
    """A Response from its creation to its end."""

    def __init__(self, request: Mapping[str, Any], response_id: str | None, now: Clock) -> None:
        self.id = response_id or new_id()
        self._now = now
        self._head = {"id": self.id, "object": "response", "created_at": int(now())}
        self._echo = _echo(request)
        self.outputs = Outputs(
            self.id,
            summary=(request.get("reasoning") or {}).get("summary") in _SUMMARIES,
            names=names_by_function(request),
        )

    def in_progress(self) -> dict[str, Any]:
        return self._response("in_progress", ())

    def finished(self, reason: str, output: Sequence[Item], usage: Usage) -> dict[str, Any]:
        """Completed, or incomplete when a bound ended the answer."""
        if reason in _INCOMPLETE:
            details = {"incomplete_details": {"reason": _INCOMPLETE[reason]}, "usage": usage_fields(usage)}
            return self._response("incomplete", output) | details
        done = {"completed_at": int(self._now()), "usage": usage_fields(usage)}
        return self._response("completed", output) | done

    def failed(self, error: CortexError, output: Sequence[Item]) -> dict[str, Any]:
        return self._response("failed", output) | {"error": failure_of(error)}

    def _response(self, status: str, output: Sequence[Item]) -> dict[str, Any]:
        state = {"completed_at": None, "error": None, "incomplete_details": None, "output": list(output), "usage": None}
        return {**self._head, "status": status, **state, **self._echo}


def from_chat(
    answer: dict[str, Any], *, request: Mapping[str, Any], response_id: str | None = None, now: Clock = time.time
) -> dict[str, Any]:
    """The Response for a whole answer to the Responses `request`. Raises CortexError 502 when it is no chat completion."""
    said = read_answer(answer)
    draft = ResponseDraft(request, response_id, now)
    output = []
    for number, (part, text) in enumerate(said.parts, 1):
        item = draft.outputs.next(part)
        item.grow(text, said.logprobs if part.kind == "text" else ())
        output.append(item.item("incomplete" if said.reason == "length" and number == len(said.parts) else "completed"))
    return draft.finished(said.reason, output, said.usage)


def usage_fields(usage: Usage) -> dict[str, Any]:
    """Details are parts of their totals, and present also when they are 0."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }


def _echo(request: Mapping[str, Any]) -> dict[str, Any]:
    sent = {name: default if request.get(name) is None else request[name] for name, default in _ECHOED.items()}
    return {
        "model": request["model"],
        "background": False,
        "service_tier": "default",
        "truncation": "disabled",
        "reasoning": {"effort": None, "summary": None} | (request.get("reasoning") or {}),
        "text": {"format": {"type": "text"}} | (request.get("text") or {}),
        "tools": [_echoed_tool(tool) for tool in request.get("tools") or ()],
        **sent,
    }


def _echoed_tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool["type"] != "function":
        return tool
    return {"description": None, "parameters": None, "strict": None} | tool

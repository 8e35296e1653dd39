"""A whole chat completions answer, read into the parts that a stream of it would have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cortex.wire.chat.deltas import UNREADABLE, Usage, logprobs_of, malformed, stop_of, string_of, usage_of
from cortex.wire.chat.turn import Part, ended_by


@dataclass(frozen=True, slots=True)
class Answer:
    """`parts` with their text (a tool call's is its arguments, never empty) in the order of a stream."""

    id: str
    parts: tuple[tuple[Part, str], ...]
    reason: str
    stop: str | None
    usage: Usage
    logprobs: tuple[Any, ...]


def read_answer(answer: dict[str, Any]) -> Answer:
    """Raises CortexError 502 for what is no chat completion."""
    try:
        return _read(answer)
    except UNREADABLE:
        raise malformed("it is no chat completion") from None


def _read(answer: dict[str, Any]) -> Answer:
    choice = answer["choices"][0]
    message = choice["message"]
    calls = message.get("tool_calls") or ()
    parts: list[tuple[Part, str]] = []
    if reasoning := string_of(message, "reasoning_content"):
        parts.append((Part("reasoning"), reasoning))
    if text := string_of(message, "content"):
        parts.append((Part("text"), text))
    parts += [_call(call) for call in calls]
    return Answer(
        id=string_of(answer, "id"),
        parts=tuple(parts),
        reason=ended_by(string_of(choice, "finish_reason") or "stop", called=bool(calls)),
        stop=stop_of(choice, answer),
        usage=usage_of(answer) or Usage(0, 0),
        logprobs=logprobs_of(choice),
    )


def _call(call: dict[str, Any]) -> tuple[Part, str]:
    function = call["function"]
    name = string_of(function, "name")
    if not name:
        raise ValueError(name)
    arguments = string_of(function, "arguments")
    return Part("tool", string_of(call, "id"), name), arguments if arguments.strip() else "{}"

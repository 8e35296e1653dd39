"""A chat completion as a Message, and what whole answers and streams say alike: stop reasons, usage, tool input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from cortex.wire.anthropic.ids import new_message_id, tool_use_id
from cortex.wire.chat.answer import read_answer
from cortex.wire.chat.deltas import Usage, malformed
from cortex.wire.chat.turn import Part
from cortex.wire.fields import can_be_sent

Block = dict[str, Any]
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def from_chat(answer: dict[str, Any], *, request: Mapping[str, Any], message_id: str | None = None) -> dict[str, Any]:
    """The Message for a whole answer to the Messages `request`. Raises CortexError 502 when it is no chat completion.

    A tool call that the bound on tokens cut inside its arguments has the input `{}`; `stop_reason` tells.
    """
    said = read_answer(answer)
    cut = said.reason == "length"
    content = [_block(part, text, cut=cut) for part, text in said.parts]
    message = new_message(request, message_id or new_message_id(), usage_fields(said.usage))
    return message | {"content": content, **stop_fields(said.reason, said.stop, request)}


def new_message(request: Mapping[str, Any], message_id: str, usage: dict[str, int]) -> dict[str, Any]:
    """A Message before its content. It names the model as the client did."""
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _block(part: Part, text: str, *, cut: bool) -> Block:
    block = empty_block(part)
    match part.kind:
        case "text":
            block["text"] = text
        case "reasoning":
            block["thinking"] = text
        case "tool":
            block["input"] = tool_input(part, text, cut=cut)
    return block


def empty_block(part: Part) -> Block:
    """A block as it starts."""
    match part.kind:
        case "text":
            return {"type": "text", "text": ""}
        case "reasoning":
            return {"type": "thinking", "thinking": "", "signature": ""}
        case "tool":
            return {"type": "tool_use", "id": tool_use_id(part.id), "name": part.name, "input": {}}


def tool_input(part: Part, arguments: str, *, cut: bool) -> dict[str, Any]:
    """A tool call's arguments as the object that they must be. Raises CortexError 502."""
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        value = {} if cut else None
    if not isinstance(value, dict) or not can_be_sent(value):
        raise malformed(f"the arguments of its call of '{part.name}' are no JSON object that can be passed on")
    return value


def stop_fields(reason: str, stop: str | None, request: Mapping[str, Any]) -> dict[str, Any]:
    """`stop_reason` and `stop_sequence`. A stop string counts only if the engine named it: it is never guessed."""
    if reason == "stop" and stop in (request.get("stop_sequences") or ()):
        return {"stop_reason": "stop_sequence", "stop_sequence": stop}
    return {"stop_reason": _STOP_REASONS.get(reason, "end_turn"), "stop_sequence": None}


def usage_fields(usage: Usage) -> dict[str, int]:
    """The counts are disjoint: `input_tokens` is without what came from the cache. Nothing is ever billed for caching."""
    return {
        "input_tokens": max(0, usage.prompt - usage.cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
    }

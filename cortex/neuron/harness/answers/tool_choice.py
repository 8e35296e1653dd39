"""A tool call that must be made, by any model: the engine is held to JSON that names a tool and fits its parameters.

llama.cpp's own `tool_choice: "required"` lets text come before the call and may never make one, and it does not know a
named choice. So the tools go into the chat template only (`chat_template_kwargs`, the same prompt to the byte), the
engine writes `{"name": …, "arguments": …}` under a grammar, and that becomes tool calls here. A template that opens a
block of thinking is left to think first.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from cortex.neuron.harness.answers.events import Json
from cortex.neuron.harness.answers.steps import says_anything
from cortex.wire.fields import request_of

MAX_CALLS = 16  # in one answer, where the client allows several
_REPLACED = ("tools", "tool_choice", "parallel_tool_calls", "response_format", "grammar", "json_schema")
_HEAD = re.compile(r'[\s\[,]*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*\{')
_NOTHING: Json = {"type": "object", "properties": {}, "additionalProperties": False}


def forced_tools(body: Mapping[str, Any]) -> list[Json]:
    """The tools of which one must be called; none where the model may choose."""
    tools, choice = body.get("tools") or [], body.get("tool_choice")
    if isinstance(choice, dict):
        return [tool for tool in tools if tool["function"]["name"] == choice["function"]["name"]]
    return tools if choice == "required" else []


def forcing(body: Json, tools: Sequence[Json]) -> Json:
    """The request that makes the engine write one call of `tools`, or a list of calls where `parallel_tool_calls` is true.

    Raises CortexError (400) for parameters that nest deeper than can be passed on.
    """
    request_of({"tools": list(tools)})
    kept = {field: value for field, value in body.items() if field not in _REPLACED}
    kept.pop("reasoning_format", None)  # "none" and a grammar contradict one another where a template opens a thought
    template = (body.get("chat_template_kwargs") or {}) | {"tools": body["tools"]}
    schema = calls_schema(tools, several=body.get("parallel_tool_calls") is True)
    return kept | {"chat_template_kwargs": template, "json_schema": schema}


def without_tools(body: Json) -> Json:
    """`tool_choice: "none"`: a model that does not know of tools calls none."""
    return {field: value for field, value in body.items() if field not in _REPLACED[:3]}


# ---- the schema


def calls_schema(tools: Sequence[Json], *, several: bool) -> Json:
    """Parameters are held below `$defs`, so that references inside them can be made to point there."""
    calls = {"anyOf": [_call_schema(tool["function"]["name"], number) for number, tool in enumerate(tools)]}
    definitions = {f"p{number}": _parameters(tool, f"#/$defs/p{number}") for number, tool in enumerate(tools)}
    schema = {"type": "array", "items": calls, "minItems": 1, "maxItems": MAX_CALLS} if several else calls
    return schema | {"$defs": definitions}


def _call_schema(name: str, number: int) -> Json:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": {"$ref": f"#/$defs/p{number}"}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _parameters(tool: Json, place: str) -> Any:
    parameters = tool["function"].get("parameters")
    if parameters is None:
        return _NOTHING
    return _moved({"type": "object"} | parameters, place)


def _moved(schema: Any, place: str) -> Any:
    """The schema with its own references pointing below `place`."""
    if isinstance(schema, list):
        return [_moved(each, place) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: place + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, place)
        for key, value in schema.items()
    }


# ---- the answer


class ForcedCalls:
    """A step: what the engine writes as content becomes deltas of tool calls."""

    def __init__(self) -> None:
        self._splitters: dict[int, CallSplitter] = {}

    def __call__(self, choice: Json) -> Json | None:
        splitter = self._splitters.setdefault(choice["index"], CallSplitter())
        delta = choice["delta"]
        if (text := delta.pop("content", None)) and (calls := splitter.push(text)):
            delta["tool_calls"] = calls
        if choice.get("finish_reason") == "stop" and splitter.complete:
            choice["finish_reason"] = "tool_calls"
        return choice if says_anything(choice) else None


class CallSplitter:
    """Text of `{"name": …, "arguments": {…}}`, or of a list of those, in pieces of any size → deltas of tool calls."""

    def __init__(self) -> None:
        self._head = ""
        self._calls = 0
        self._depth = 0  # of brackets inside the arguments; 0: between calls
        self._in_string = self._escaped = False

    @property
    def complete(self) -> bool:
        return self._calls > 0 and self._depth == 0

    def push(self, text: str) -> list[Json]:
        deltas: list[Json] = []
        while text:
            text = self._arguments(text, deltas) if self._depth else self._opening(text, deltas)
        return deltas

    def _opening(self, text: str, deltas: list[Json]) -> str:
        """Look for the next call's name; returns what follows it."""
        self._head += text
        found = _HEAD.search(self._head)
        if found is None:
            return ""
        rest, self._head, self._depth = self._head[found.end() :], "", 1
        function = {"name": orjson.loads(found[1]), "arguments": "{"}
        deltas.append(
            {"index": self._calls, "id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}
        )
        self._calls += 1
        return rest

    def _arguments(self, text: str, deltas: list[Json]) -> str:
        end = next((at + 1 for at, character in enumerate(text) if self._closed_by(character)), len(text))
        if deltas:  # of the same call: one delta a call and a chunk
            deltas[-1]["function"]["arguments"] += text[:end]
        else:
            deltas.append({"index": self._calls - 1, "function": {"arguments": text[:end]}})
        return text[end:]

    def _closed_by(self, character: str) -> bool:
        """Follow the JSON through one character; True when it ended the arguments."""
        if self._in_string:
            self._in_string = self._escaped or character != '"'
            self._escaped = character == "\\" and not self._escaped
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
        return self._depth == 0

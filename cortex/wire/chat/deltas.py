"""A chat completions stream as what each of its events says. Nothing raises: what cannot be read is `Broke`.

Besides OpenAI's fields it reads `reasoning_content`, an `error` object in the middle of a stream, and the stop string
that was hit: llama.cpp's `__verbose.stopping_word` (asked for by STOP_WORD_WANTED) or vLLM's `stop_reason`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from cortex import errors
from cortex.errors import CortexError
from cortex.wire import sse
from cortex.wire.errors import error_of

# What reading an answer raises that is not of its form.
UNREADABLE = (ValueError, TypeError, AttributeError, KeyError, IndexError)

# Request fields with which llama.cpp names the stop string that ended the answer; other engines ignore them.
STOP_WORD_WANTED: Mapping[str, Any] = {"verbose": True, "response_fields": ["stopping_word"]}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `cached` is a part of `prompt`, `reasoning` a part of `completion`."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of text or of reasoning. `logprobs` are OpenAI's entries for it."""

    kind: Literal["text", "reasoning"]
    text: str
    logprobs: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Called:
    """A piece of a tool call; its first has the name."""

    index: int | None
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Finished:
    reason: str
    stop: str | None


@dataclass(frozen=True, slots=True)
class Counted:
    usage: Usage


@dataclass(frozen=True, slots=True)
class Broke:
    """The stream holds an error, or is none that can be read."""

    error: CortexError


@dataclass(frozen=True, slots=True)
class Done:
    """`[DONE]`."""


Delta = Said | Called | Finished | Counted | Broke | Done


def read(events: bytes) -> Iterator[Delta]:
    """What whole events say, in their order. Comments say nothing."""
    for data in sse.data_of(events):
        if data == b"[DONE]":
            yield Done()
            continue
        try:
            yield from _chunk(orjson.loads(data))
        except UNREADABLE:
            yield Broke(malformed("an event of its stream cannot be read"))


def malformed(what: str) -> CortexError:
    return errors.upstream_failed(f"the model's answer is malformed: {what}", code="upstream_malformed_response")


def _chunk(chunk: dict[str, Any]) -> Iterator[Delta]:
    if said := chunk.get("error"):
        yield Broke(error_of(said))
        return
    for choice in chunk.get("choices") or ():
        if choice.get("index", 0) == 0:  # other dialects have one answer
            yield from _choice(choice, chunk)
    if usage := usage_of(chunk):
        yield Counted(usage)


def _choice(choice: dict[str, Any], chunk: dict[str, Any]) -> Iterator[Delta]:
    delta = choice.get("delta") or {}
    if reasoning := string_of(delta, "reasoning_content"):
        yield Said("reasoning", reasoning)
    if text := string_of(delta, "content") or string_of(choice, "text"):  # a completion says it in the choice itself
        yield Said("text", text, logprobs_of(choice))
    for call in delta.get("tool_calls") or ():
        function = call.get("function") or {}
        yield Called(_index(call), string_of(call, "id"), string_of(function, "name"), string_of(function, "arguments"))
    if reason := string_of(choice, "finish_reason"):
        yield Finished(reason, stop_of(choice, chunk))


# ---- fields that streams and whole answers share


def string_of(fields: dict[str, Any], name: str) -> str:
    """A string; absent and null are empty."""
    value = fields.get(name)
    if not isinstance(value, str | None):
        raise TypeError(name)
    return value or ""


def _index(call: dict[str, Any]) -> int | None:
    return None if call.get("index") is None else _integer(call["index"])


def _integer(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError
    return value


def logprobs_of(choice: dict[str, Any]) -> tuple[Any, ...]:
    return tuple((choice.get("logprobs") or {}).get("content") or ())


def stop_of(choice: dict[str, Any], body: dict[str, Any]) -> str | None:
    """The stop string that was hit, if the engine tells."""
    said = (body.get("__verbose") or {}).get("stopping_word") or choice.get("stop_reason")
    return said if isinstance(said, str) and said else None


def usage_of(body: dict[str, Any]) -> Usage | None:
    usage = body.get("usage")
    if not usage:
        return None
    return Usage(
        prompt=_count(usage, "prompt_tokens"),
        completion=_count(usage, "completion_tokens"),
        cached=_count(usage.get("prompt_tokens_details") or {}, "cached_tokens"),
        reasoning=_count(usage.get("completion_tokens_details") or {}, "reasoning_tokens"),
    )


def _count(counts: dict[str, Any], field: str) -> int:
    return _integer(counts.get(field) or 0)

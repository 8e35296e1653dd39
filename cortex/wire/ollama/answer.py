"""A whole answer as Ollama's object, and the figures that end a stream alike. Durations are nanoseconds, as seen from the gateway."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from cortex.wire.chat.answer import read_answer
from cortex.wire.chat.deltas import UNREADABLE, Usage, malformed, string_of, usage_of
from cortex.wire.fields import can_be_sent
from cortex.wire.ollama.request import Asked

NANO = 1_000_000_000
Object = dict[str, Any]


class Clock:
    """When an answer began, and when its first token came. `now` is a clock of seconds that only goes forward."""

    def __init__(self, now: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._now = now
        self._wall = wall
        self._began = now()
        self._first: float | None = None

    def token(self) -> None:
        if self._first is None:
            self._first = self._now()

    def created_at(self) -> str:
        return datetime.fromtimestamp(self._wall(), UTC).isoformat().replace("+00:00", "Z")

    def durations(self) -> Object:
        end = self._now()
        first = end if self._first is None else self._first
        return {
            "total_duration": int((end - self._began) * NANO),
            "load_duration": 0,
            "prompt_eval_duration": int((first - self._began) * NANO),
            "eval_duration": int((end - first) * NANO),
        }


def head(asked: Asked, clock: Clock) -> Object:
    """What every object begins with. The model is named as the client did, without the tag `latest`."""
    return {"model": asked.model, "created_at": clock.created_at()}


def said(asked: Asked, text: str = "", thinking: str = "", calls: list[Object] | None = None) -> Object:
    """A piece of an answer, where this kind of answer has it."""
    thought = {"thinking": thinking} if thinking else {}
    if asked.kind == "generate":
        return {"response": text, **thought}
    called = {"tool_calls": calls} if calls else {}
    return {"message": {"role": "assistant", "content": text, **thought, **called}}


def ended(reason: str, usage: Usage, clock: Clock) -> Object:
    counts = {"prompt_eval_count": usage.prompt, "eval_count": usage.completion}
    return {"done": True, "done_reason": "length" if reason == "length" else "stop", **clock.durations(), **counts}


def call_of(name: str, arguments: str, *, cut: bool) -> Object:
    """A tool call. What a bound cut in its arguments has none. Raises CortexError 502."""
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        value = {} if cut else None
    if not isinstance(value, dict) or not can_be_sent(value):
        raise malformed(f"the arguments of its call of '{name}' are no JSON object that can be passed on")
    return {"function": {"name": name, "arguments": value}}


def from_completion(answer: Object, asked: Asked, clock: Clock) -> Object:
    """Ollama's object for a whole answer. Raises CortexError 502 when it is none."""
    if asked.path != "/v1/chat/completions":
        return _from_text(answer, asked, clock)
    read = read_answer(answer)
    cut = read.reason == "length"
    texts = {kind: "".join(text for part, text in read.parts if part.kind == kind) for kind in ("text", "reasoning")}
    calls = [call_of(part.name, text, cut=cut) for part, text in read.parts if part.kind == "tool"]
    piece = said(asked, texts["text"], texts["reasoning"], calls)
    return head(asked, clock) | piece | ended(read.reason, read.usage, clock)


def _from_text(answer: Object, asked: Asked, clock: Clock) -> Object:
    try:
        choice = answer["choices"][0]
        text, reason = string_of(choice, "text"), string_of(choice, "finish_reason")
        usage = usage_of(answer) or Usage(0, 0)
    except UNREADABLE:
        raise malformed("it is no completion") from None
    return head(asked, clock) | said(asked, text) | ended(reason, usage, clock)


def loaded(asked: Asked, clock: Clock) -> Object:
    """The answer to a request that has nothing to answer."""
    return head(asked, clock) | said(asked) | {"done": True, "done_reason": "load"}


def unloaded(asked: Asked, clock: Clock) -> Object:
    """The answer to such a request that lets the model go."""
    return loaded(asked, clock) | {"done_reason": "unload"}


def from_embeddings(answer: Object, model: str, clock: Clock) -> Object:
    """Raises CortexError 502."""
    try:
        vectors = [each["embedding"] for each in sorted(answer["data"], key=lambda each: each["index"])]
        usage = usage_of(answer) or Usage(0, 0)
    except UNREADABLE:
        vectors = []
    if not vectors:
        raise malformed("it holds no embeddings")
    durations = clock.durations()
    kept = {name: durations[name] for name in ("total_duration", "load_duration")}
    return {"model": model, "embeddings": vectors, **kept, "prompt_eval_count": usage.prompt}

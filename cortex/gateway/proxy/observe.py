"""One answer, seen on the side: when the first token came, how many there were, what was counted as usage.

Bytes are searched, and only what counts tokens is parsed: inside a JSON string a quote is always escaped, so what a model
writes cannot look like a field. The cost is a microsecond for a piece.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

TAIL_BYTES = 64 * 1024  # of an answer that is no stream: usage stands near its end
HEAD_BYTES = 4 * 1024  # or near its beginning, where embeddings follow it
SHORT_WINDOW_S = 0.1  # a decode window below this says nothing about speed

# Content, reasoning, completions' text and tool calls, when not empty: the role chunk is no token.
_TOKEN = re.compile(rb'"(?:content|reasoning_content|reasoning|text|name|arguments)"\s*:\s*"(?!")')
_UNFINISHED = re.compile(rb'"finish_reason"\s*:\s*null')
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"(\w{1,32})"')
_ERROR = re.compile(rb'^data: ?\{"error"', re.MULTILINE)  # a neuron's own last word in a stream that it cannot finish
_DATA = b"data:"
_ALONE = (b'"content"', b'"reasoning', b'"text"')  # of these an event has one; a tool's name brings arguments
_OBJECT = re.compile(rb'"\w+"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')


class Usage(NamedTuple):
    """Tokens, as the engine counted them. None is "not told"."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class Observation:
    """Give it every piece of an answer (whole events of a stream), then read what was seen. Times are seconds since the request was sent."""

    __slots__ = (
        "_began",
        "_clock",
        "_head",
        "_manner",
        "_stream",
        "_tail",
        "failed",
        "finish_reason",
        "first_token_s",
        "last_token_s",
        "token_events",
        "usage",
    )

    def __init__(self, *, stream: bool, began: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._began = began
        self._clock = clock
        self._head = b""
        self._manner: tuple[bytes, bytes, bytes] | None = None
        self._tail: bytes | bytearray = b""
        self.token_events = 0
        self.first_token_s: float | None = None
        self.last_token_s: float | None = None
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.failed = False

    def piece(self, data: bytes) -> None:
        if self._stream:
            self._events(data)
        elif not self._tail:
            self._head, self._tail = data[:HEAD_BYTES], data[-TAIL_BYTES:]
        else:
            self._more(data)

    def _more(self, data: bytes) -> None:
        self._head += data[: HEAD_BYTES - len(self._head)]
        if isinstance(self._tail, bytes):
            self._tail = bytearray(self._tail)
        self._tail += data[-TAIL_BYTES:]
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    def _events(self, data: bytes) -> None:
        tokens = self._like_the_last(data)
        if tokens is None:
            tokens = self._search(data)
        if tokens:
            self.token_events += tokens
            self.last_token_s = self._clock() - self._began
            if self.first_token_s is None:
                self.first_token_s = self.last_token_s

    def _like_the_last(self, data: bytes) -> int | None:
        """The tokens in events that are written as the last ones were: one key each, and no end. None: others are among them."""
        if self._manner is None:
            return None
        key, empty, unfinished = self._manner
        events = data.count(_DATA)
        if data.count(key) != events or data.count(unfinished) != events:
            return None
        return events - data.count(empty)

    def _search(self, data: bytes) -> int:
        self._look_for_the_end(data)
        if b'"error"' in data and _ERROR.search(data):
            self.failed = True
        found = _TOKEN.findall(data)
        counting = b'"usage"' in data or b'"timings"' in data
        if found and not counting and found[-1].startswith(_ALONE) and (unfinished := _UNFINISHED.search(data)):
            self._manner = found[-1], found[-1] + b'"', unfinished[0]
        return len(found)

    def _look_for_the_end(self, data: bytes | bytearray) -> None:
        if b'"usage"' in data and (usage := usage_in(data)):
            self.usage = usage
        elif self.usage is None and b'"timings"' in data:
            self.usage = timings_in(data)
        if found := _FINISH.findall(data):
            self.finish_reason = found[-1].decode()

    def end(self) -> Totals:
        """What is known when the answer is over, however it ended."""
        if self._tail:
            self._look_for_the_end(self._tail)
            self.usage = self.usage or usage_in(self._head)
        seconds = self._clock() - self._began
        told = self.usage or Usage()
        completion = told.completion_tokens if told.completion_tokens is not None else self.token_events
        return Totals(
            seconds=seconds,
            first_token_s=self.first_token_s,
            prompt_tokens=told.prompt_tokens or 0,
            completion_tokens=completion,
            cached_tokens=told.cached_tokens or 0,
            tokens_per_second=completion / window if completion and (window := self._window(seconds)) > 0 else None,
            finish_reason=self.finish_reason,
            delivered=bool(self.usage or self.token_events or self._tail),
        )

    def _window(self, seconds: float) -> float:
        """The decode window: from the first token to the last; the whole duration where that says nothing."""
        if self.first_token_s is None or self.last_token_s is None:
            return seconds
        window = self.last_token_s - self.first_token_s
        return window if window >= SHORT_WINDOW_S else seconds


class Totals(NamedTuple):
    """An answer in numbers. `delivered`: the client was sent something that a model made."""

    seconds: float
    first_token_s: float | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    tokens_per_second: float | None
    finish_reason: str | None
    delivered: bool


def usage_in(data: bytes | bytearray) -> Usage | None:
    """The last `"usage": {…}` in `data`."""
    told = _last(b'"usage"', data)
    if told is None:
        return None
    cached = _count(told, "cached_tokens")
    if cached is None:
        details = told.get("prompt_tokens_details")
        cached = _count(details, "cached_tokens") if isinstance(details, dict) else None
    return Usage(_count(told, "prompt_tokens"), _count(told, "completion_tokens"), cached)


def timings_in(data: bytes | bytearray) -> Usage | None:
    """The last `"timings": {…}` in `data`: llama.cpp says them with the last token, also to who did not ask for usage."""
    told = _last(b'"timings"', data)
    if told is None or (prompt := _count(told, "prompt_n")) is None:
        return None
    cached = _count(told, "cache_n")
    return Usage(prompt + (cached or 0), _count(told, "predicted_n"), cached)


def _last(key: bytes, data: bytes | bytearray) -> dict[str, Any] | None:
    """The last `key` whose value is an object."""
    place = len(data)
    while (place := data.rfind(key, 0, place)) >= 0:
        if found := _OBJECT.match(data, place):
            try:
                told: dict[str, Any] = orjson.loads(found[1])
            except orjson.JSONDecodeError:
                continue
            return told
    return None


def _count(told: dict[str, Any], name: str) -> int | None:
    count = told.get(name)
    return count if type(count) is int and count >= 0 else None

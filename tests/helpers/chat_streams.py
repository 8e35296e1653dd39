"""Chat completions streams for tests of translation: recorded from the real engine, and made by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from cortex.net.relay import EventTail
from cortex.wire import sse

RECORDED = Path(__file__).resolve().parents[1] / "wire" / "recorded"
USAGE = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25, "prompt_tokens_details": {"cached_tokens": 8}}
DONE = b"data: [DONE]\n\n"


def recorded(name: str) -> bytes:
    """What the engine streamed for a request of helpers.engine_recording."""
    return (RECORDED / f"{name}.sse").read_bytes()


def recorded_whole(name: str) -> dict[str, Any]:
    answer: dict[str, Any] = orjson.loads((RECORDED / f"{name}.json").read_bytes())
    return answer


def chunk(delta: dict[str, Any] | None = None, *, finish: str | None = None, **more: Any) -> bytes:
    """One event. `delta` None: an event without choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    fields = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
    return sse.event(orjson.dumps(fields | more))


def call(index: int | None, arguments: str = "", **more: Any) -> dict[str, Any]:
    """A delta with a piece of a tool call; `name` and `id` in its first."""
    name = more.pop("name", None)
    function = {"arguments": arguments} | ({"name": name} if name else {})
    numbered = {} if index is None else {"index": index}
    return {"tool_calls": [{**numbered, **more, "type": "function", "function": function}]}


def stream(*deltas: dict[str, Any], finish: str = "stop", usage: dict[str, Any] | None = USAGE) -> bytes:
    """A whole stream: role, deltas, finish, usage, [DONE]."""
    events = [chunk({"role": "assistant", "content": None}), *map(chunk, deltas), chunk({}, finish=finish)]
    return b"".join([*events, chunk(usage=usage) if usage else b"", DONE])


HAND_MADE: dict[str, bytes] = {
    "text": stream({"content": "Hi"}, {"content": " there"}),
    "nothing": stream(),
    "reasoning then text": stream({"reasoning_content": "Hm"}, {"reasoning_content": "."}, {"content": "Yes"}),
    "reasoning and text in one event": stream({"reasoning_content": "Hm", "content": "Yes"}),
    "reasoning after text": stream({"content": "A"}, {"reasoning_content": "b"}, {"content": "C"}),
    "text then two tools": stream(
        {"content": "Let me see"},
        call(0, name="get_weather", id="a1"),
        call(0, '{"city":'),
        call(0, ' "Paris"}'),
        call(1, '{"city": "Rome"}', name="get_weather", id="a2"),
        finish="tool_calls",
    ),
    "arguments only at the end": stream(
        call(0, name="get_weather", id="a1"), call(0, '{"city": "Zürich 🌍"}'), finish="tool_calls"
    ),
    "arguments never": stream(call(0, name="now", id="a1"), call(1, name="now", id="a2"), finish="tool_calls"),
    "a tool, but finished by stop": stream(call(0, "{}", name="now", id="a1")),
    "two calls in one event": stream(
        {
            "tool_calls": call(0, "{}", name="now", id="a")["tool_calls"]
            + call(1, "{}", name="now", id="b")["tool_calls"]
        },
        finish="tool_calls",
    ),
    "text, then a tool that is cut": stream({"content": "a"}, call(0, '{"a": ', name="f", id="a1"), finish="length"),
    "a tool that is cut before its arguments": stream(call(0, name="f", id="a1"), finish="length"),
    "with comments and CRLF": b": ping\r\n\r\n" + stream({"content": "Hi"}).replace(b"\n", b"\r\n") + b": bye\n\n",
}
RECORDINGS = {f"recorded {path.stem}": path.read_bytes() for path in sorted(RECORDED.glob("*.sse"))}
STREAMS = HAND_MADE | RECORDINGS


def whole(events: bytes) -> dict[str, Any]:
    """The answer that a stream adds up to, as the official SDK adds it: independent of our code."""
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for data in sse.data_of(events):
        if data != b"[DONE]":
            state.handle_chunk(ChatCompletionChunk.model_validate_json(data))
    return state.current_completion_snapshot.to_dict()


def pieces_at(data: bytes, *cuts: int) -> list[bytes]:
    """Whole events as the relay passes them on when the stream arrives cut at these bytes."""
    tail, borders = EventTail(), [0, *sorted(cuts), len(data)]
    pieces = [tail.push(data[a:b]) for a, b in pairwise(borders) if b > a]
    return [*pieces, tail.rest()]

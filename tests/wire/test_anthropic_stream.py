"""clients.md 5.1, stream: the engine's events as Anthropic's, and never otherwise than the reference says."""

import json
from itertools import pairwise
from typing import Any

import orjson
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from helpers.chat_streams import (
    DONE,
    HAND_MADE,
    STREAMS,
    call,
    chunk,
    pieces_at,
    recorded,
    recorded_whole,
    stream,
    whole,
)
from helpers.stream_laws import CUTS, beginnings, check_every_cut, named_events
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from cortex import errors
from cortex.wire import sse
from cortex.wire.anthropic import StreamTranslator, from_chat

REQUEST = {"model": "claude-x", "max_tokens": 10, "stop_sequences": ["STOP"]}
EVENT = TypeAdapter(RawMessageStreamEvent)


def translator(**more):
    fields: dict[str, Any] = {"input_tokens": 20, "request_id": "req_1", "message_id": "msg_1"}
    return StreamTranslator(REQUEST, **(fields | more))


def translate(*pieces, **more):
    one = translator(**more)
    return b"".join([one.start(), *map(one.push, pieces), one.end()])


def types(sent):
    return [event["type"] for event in named_events(sent)]


def check_order(events):
    """The grammar of a stream: start, blocks that do not overlap, indices in a row, deltas of their block's type, one end."""
    kinds = {
        "text": {"text_delta"},
        "thinking": {"thinking_delta", "signature_delta"},
        "tool_use": {"input_json_delta"},
    }
    assert events[0]["type"] == "message_start"
    opened, block = -1, None
    for event in events[1:]:
        match event["type"]:
            case "content_block_start":
                assert block is None
                assert event["index"] == opened + 1
                opened, block = event["index"], event["content_block"]["type"]
            case "content_block_delta":
                assert event["index"] == opened
                assert block is not None
                assert event["delta"]["type"] in kinds[block]
            case "content_block_stop":
                assert event["index"] == opened
                assert block is not None
                block = None
            case "message_delta" | "message_stop":
                assert block is None
    names = [event["type"] for event in events]
    assert names.count("message_start") == 1
    if "error" in names:
        assert names.index("error") == len(names) - 1
        assert "message_stop" not in names
    else:
        assert names[-2:] == ["message_delta", "message_stop"]
        assert names.count("message_delta") == names.count("message_stop") == 1


def accumulated(sent):
    """The final message as Anthropic's SDK adds the events up."""
    snapshot = None
    buffers: dict[int, bytes] = {}
    for event in named_events(sent):
        if event["type"] != "ping":
            typed = EVENT.validate_python(event)
            snapshot = accumulate_event(event=typed, current_snapshot=snapshot, json_bufs=buffers)
    assert snapshot is not None
    return snapshot.model_dump(mode="json", exclude_none=True)


# ---- what every stream holds to


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_the_order_of_events(events):
    """Exactly one message_start, contiguous indices, each block stopped before the next, no foreign delta, one end."""
    check_order(named_events(translate(events)))


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_the_vendors_types_take_every_event(events):
    """Every event holds against the types of Anthropic's own SDK."""
    for event in named_events(translate(events)):
        EVENT.validate_python(event)


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "reasoning after text"])
def test_a_stream_adds_up_to_the_whole_answer(name):
    """What the official SDK makes of the events is the Message that the same answer gives as a whole."""
    events = STREAMS[name]
    answer = whole(events) | ({"__verbose": {"stopping_word": "STOP"}} if name == "recorded stop" else {})
    expected = Message.model_validate(from_chat(answer, request=REQUEST, message_id="msg_1"))
    assert accumulated(translate(events)) == expected.model_dump(mode="json", exclude_none=True)


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_every_cut_gives_the_same_events(events):
    """However a stream arrives, it is translated to the same bytes."""
    check_every_cut(translate, events)


@given(CUTS)
def test_many_cuts_give_the_same_events(cut):
    """The same holds for any number of cuts, down to single bytes."""
    events, cuts = cut
    assert translate(*pieces_at(events, *cuts)) == translate(events)


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_tool_input_is_json(events):
    """The pieces of a tool's input concatenate to a JSON object, unless max_tokens cut them."""
    inputs: dict[int, str] = {}
    sent = named_events(translate(events))
    for event in sent:
        if event["type"] == "content_block_delta" and event["delta"]["type"] == "input_json_delta":
            inputs[event["index"]] = inputs.get(event["index"], "") + event["delta"]["partial_json"]
    if sent[-2]["delta"]["stop_reason"] != "max_tokens":
        tools = [e["index"] for e in sent if e.get("content_block", {}).get("type") == "tool_use"]
        assert tools == list(inputs)
        assert all(isinstance(json.loads(text), dict) for text in inputs.values())


# ---- one thing at a time


def test_message_start_comes_before_the_first_token():
    """start() gives message_start with input_tokens and every usage field at once; the stream does not repeat it."""
    one = translator(input_tokens=77)
    (event,) = named_events(one.start())
    assert event["message"]["usage"] == {
        "input_tokens": 77,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 0,
    }
    assert event["message"] | {"usage": {}} == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {},
    }
    assert one.start() == b""
    assert "message_start" not in types(one.push(HAND_MADE["text"]))


def test_input_tokens_are_present_even_if_not_counted():
    """Clients crash without usage.input_tokens in message_start: uncounted, it is there and 0."""
    assert named_events(translator(input_tokens=None).start())[0]["message"]["usage"]["input_tokens"] == 0


def test_a_stream_without_start_starts_itself():
    """message_start comes first also when the caller sends the engine's events right away."""
    assert types(translator().push(HAND_MADE["text"]))[0] == "message_start"


def test_text():
    """Text is a text block; the end tells stop_reason and the disjoint, cumulative usage."""
    assert named_events(translate(HAND_MADE["text"]))[1:] == [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " there"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {
                "input_tokens": 12,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 8,
                "output_tokens": 5,
            },
        },
        {"type": "message_stop"},
    ]


def test_thinking():
    """reasoning_content is a thinking block with an empty signature before it stops; the text after it loses no token."""
    sent = named_events(translate(HAND_MADE["reasoning then text"]))
    assert [event.get("delta") or event.get("content_block") for event in sent[1:-2]] == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Hm"},
        {"type": "thinking_delta", "thinking": "."},
        {"type": "signature_delta", "signature": ""},
        None,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "Yes"},
        None,
    ]


def test_tools():
    """Each tool call is a block with id, name and an empty input, then its arguments; stop_reason is tool_use."""
    sent = named_events(translate(HAND_MADE["text then two tools"]))
    starts = [event["content_block"] for event in sent if event["type"] == "content_block_start"]
    assert starts[1:] == [
        {"type": "tool_use", "id": f"toolu_{made}", "name": "get_weather", "input": {}} for made in ("a1", "a2")
    ]
    assert sent[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}


def test_pieces_are_sent_as_they_come():
    """Nothing is held back: each of the engine's events gives its delta at once, arguments too."""
    one = translator()
    one.start()
    assert types(one.push(chunk(call(0, name="f", id="a")))) == ["content_block_start"]
    for piece in ('{"a"', ": 1", "}"):
        (event,) = named_events(one.push(chunk(call(0, piece))))
        assert event["delta"]["partial_json"] == piece


def test_the_stop_string():
    """A stop string that the engine names is told, as a whole answer tells it."""
    assert named_events(translate(recorded("stop")))[-2]["delta"] == {
        "stop_reason": "stop_sequence",
        "stop_sequence": "STOP",
    }
    assert named_events(translate(recorded("no_stop")))[-2]["delta"]["stop_reason"] == "end_turn"
    assert from_chat(recorded_whole("stop"), request=REQUEST)["stop_sequence"] == "STOP"


def test_usage_that_the_engine_does_not_tell():
    """Without usage the prompt is what was counted, and the output one token an event."""
    sent = named_events(translate(stream({"content": "a"}, {"content": "b"}, usage=None), input_tokens=9))
    assert (sent[-2]["usage"]["input_tokens"], sent[-2]["usage"]["output_tokens"]) == (9, 2)


def test_ping():
    """A ping is a real event, comes after message_start also before any token, and not after the end."""
    one = translator()
    assert types(one.ping()) == ["message_start", "ping"]
    assert one.ping() == b'event: ping\ndata: {"type":"ping"}\n\n'
    one.push(HAND_MADE["text"])
    assert (one.over, one.ping()) == (True, b"")


def test_a_ping_between_arguments():
    """While the engine is silent inside a tool call, a ping may come and disturbs nothing."""
    one = translator()
    half = one.push(chunk(call(0, '{"a": ', name="f", id="a")))
    sent = half + one.ping() + one.push(chunk(call(0, "1}")) + chunk({}, finish="tool_calls") + DONE)
    check_order(named_events(sent))
    assert accumulated(sent)["content"][0]["input"] == {"a": 1}


def test_the_end_comes_once():
    """[DONE], the upstream's end and a late failure together close the stream exactly once."""
    one = translator()
    sent = one.push(HAND_MADE["text"])
    assert types(sent)[-1] == "message_stop"
    assert [one.end(), one.end(), one.fail(errors.internal()), one.push(HAND_MADE["text"]), one.start()] == [b""] * 5
    assert one.error is None


def test_an_upstream_that_ends_without_done():
    """After a finish reason the end of the upstream is as good as [DONE]."""
    events = HAND_MADE["text"]
    assert translate(events.removesuffix(DONE)) == translate(events)


# ---- errors


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_a_truncated_upstream(events):
    """Wherever the upstream breaks off, the stream ends well formed: whole if the finish reason had come, else with an error."""
    for part, finished in beginnings(events):
        sent = named_events(translate(part))
        check_order(sent)
        assert sent[-1]["type"] == ("message_stop" if finished else "error")


def test_a_failure_in_the_middle():
    """fail() ends an open stream with an error event in Anthropic's envelope; the open block stays open."""
    one = translator()
    sent = one.push(chunk({"content": "Hi"})) + one.fail(errors.upstream_stalled(30))
    assert types(sent) == ["message_start", "content_block_start", "content_block_delta", "error"]
    assert named_events(sent)[-1] == {
        "type": "error",
        "error": {"type": "api_error", "message": "the model sent nothing for 30 s"},
        "request_id": "req_1",
    }
    assert (one.over, one.end()) == (True, b"")


@pytest.mark.parametrize(
    ("said", "kind", "beginning"),
    [
        ({"message": "busy", "type": "rate_limit_error", "code": "rate_limit_exceeded"}, "rate_limit_error", "busy"),
        ({"message": "later", "type": "api_error", "code": "shutting_down"}, "overloaded_error", "later"),
        (
            {"message": "at most 5 tokens", "type": "invalid_request_error", "code": "context_length_exceeded"},
            "invalid_request_error",
            "prompt is too long",
        ),
        (
            {"message": "the request exceeds", "type": "exceed_context_size_error", "code": 400},
            "invalid_request_error",
            "prompt is too long",
        ),
        ({"message": "out of memory", "type": "server_error", "code": 500}, "api_error", "out of memory"),
        ("flat", "api_error", "flat"),
        ({}, "api_error", "it failed without a reason"),
    ],
)
def test_an_error_event_of_the_engine(said, kind, beginning):
    """An error in the engine's stream becomes Anthropic's, with its type; an overflow says "prompt is too long"."""
    if not said:
        said = {"message": None}
    one = translator()
    sent = one.push(chunk({"content": "Hi"}) + sse.event(orjson.dumps({"error": said})) + DONE)
    last = named_events(sent)[-1]
    assert last["type"] == "error"
    assert last["error"]["type"] == kind
    assert last["error"]["message"].startswith(beginning)
    assert one.error is not None


@pytest.mark.parametrize(
    "nonsense",
    [
        b"data: {not json\n\n",
        b"data: []\n\n",
        b'data: "x"\n\n',
        b"data: \xff\xfe\n\n",
        b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
        b'data: {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"name": 3}}]}}]}\n\n',
        b'data: {"choices": 3}\n\n',
        b'data: {"usage": {"prompt_tokens": "many"}}\n\n',
        b'data: {"usage": 7}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": 4}]}\n\n',
        chunk(call(0, '{"a": 1}')) + chunk({}, finish="tool_calls") + DONE,
        chunk(call(0, "{}", name="f", id="a")) + chunk(call(1, "{}", name="g", id="b")) + chunk(call(0, " ")),
        stream(call(0, '{"a": ', name="f", id="a"), finish="tool_calls"),
        stream(call(0, '{"a": ', name="f", id="a"), call(1, "{}", name="f", id="b"), finish="tool_calls"),
        stream(call(0, '"a text"', name="f", id="a"), finish="tool_calls"),
    ],
)
def test_a_malformed_upstream(nonsense):
    """A stream that cannot be read, or whose tool call is no JSON object, ends in a well-formed error, and nothing follows."""
    one = translator()
    sent = (
        one.start() + one.push(chunk({"content": "Hi"})) + one.push(nonsense) + one.push(HAND_MADE["text"]) + one.end()
    )
    check_order(named_events(sent))
    assert named_events(sent)[-1]["error"]["type"] == "api_error"
    assert "malformed" in named_events(sent)[-1]["error"]["message"]


@given(st.sampled_from(sorted(HAND_MADE)), st.integers(0), st.binary(min_size=1, max_size=6))
def test_damage_anywhere_is_survived(name, place, damage):
    """Bytes overwritten anywhere in the upstream's stream never raise, and leave a well-formed stream."""
    events = HAND_MADE[name]
    place %= len(events)
    damaged = events[:place] + damage + events[place + len(damage) :]
    check_order(named_events(translate(*pieces_at(damaged))))


def test_what_is_not_text_of_the_first_choice():
    """Events without choices, other choices and unknown fields are no text."""
    other = sse.event(b'{"choices":[{"index":1,"delta":{"content":"no"}}],"x":1}')
    assert translate(other + HAND_MADE["text"]) == translate(HAND_MADE["text"])


def test_indices_are_in_a_row_for_many_blocks():
    """However often the engine changes between thinking, text and tools, block indices count 0, 1, 2 …"""
    deltas = [{"reasoning_content": "a"}, {"content": "b"}, call(0, "{}", name="f", id="x"), {"content": "c"}]
    starts = [
        event["index"] for event in named_events(translate(stream(*deltas, *deltas[:2]))) if "content_block" in event
    ]
    assert all(b == a + 1 for a, b in pairwise(starts))
    assert len(starts) == 6

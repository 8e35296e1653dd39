"""clients.md 5.1, response: a whole chat completion as a Message."""

import json
import re

import orjson
import pytest
from anthropic.types import Message
from helpers.chat_streams import STREAMS, recorded_whole, whole

from cortex.errors import CortexError
from cortex.wire.anthropic import from_chat

REQUEST = {"model": "claude-x", "max_tokens": 10, "stop_sequences": ["STOP"]}
USAGE = {"prompt_tokens": 20, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 8}}
CALL = {"id": "abc", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def answer(message=None, finish="stop", usage=USAGE, **more):
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": None} | (message or {})}
    return {"id": "chatcmpl-1", "choices": [choice], "usage": usage, **more}


def translated(*args, **more):
    message = from_chat(answer(*args, **more), request=REQUEST)
    return json.loads(orjson.dumps(message))


def test_the_shape_of_a_message():
    """A Message has an id that starts with msg_, its type, role, the client's model, content, stop_reason, stop_sequence and usage."""
    message = translated({"content": "Hello"})
    assert re.fullmatch(r"msg_\w{10,}", message.pop("id"))
    assert message == {
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 12,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 8,
            "output_tokens": 5,
        },
    }


def test_thinking_text_and_tools_in_their_order():
    """reasoning_content becomes a thinking block, then the text, then each tool call with its input as an object."""
    message = translated({"reasoning_content": "Hm", "content": "See", "tool_calls": [CALL, CALL | {"id": "d.e"}]})
    assert message["content"] == [
        {"type": "thinking", "thinking": "Hm", "signature": ""},
        {"type": "text", "text": "See"},
        {"type": "tool_use", "id": "toolu_abc", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "toolu_x_" + b"d.e".hex(), "name": "f", "input": {"a": 1}},
    ]


@pytest.mark.parametrize(
    ("message", "finish", "more", "expected"),
    [
        ({"content": "x"}, "stop", {}, ("end_turn", None)),
        ({"content": "x"}, "length", {}, ("max_tokens", None)),
        ({"content": "x"}, "content_filter", {}, ("refusal", None)),
        ({"content": "x"}, None, {}, ("end_turn", None)),
        ({"tool_calls": [CALL]}, "tool_calls", {}, ("tool_use", None)),
        ({"tool_calls": [CALL]}, "stop", {}, ("tool_use", None)),
        ({"tool_calls": [CALL]}, "length", {}, ("max_tokens", None)),
        ({"content": "x"}, "stop", {"__verbose": {"stopping_word": "STOP"}}, ("stop_sequence", "STOP")),
        ({"content": "x"}, "stop", {"__verbose": {"stopping_word": ""}}, ("end_turn", None)),
        ({"content": "x"}, "stop", {"__verbose": {"stopping_word": "<|im_end|>"}}, ("end_turn", None)),
        ({"content": "x"}, "length", {"__verbose": {"stopping_word": "STOP"}}, ("max_tokens", None)),
    ],
)
def test_stop_reasons(message, finish, more, expected):
    """end_turn, max_tokens, stop_sequence (with the string, if the engine names it and the client asked for it), tool_use, refusal."""
    got = translated(message, finish, **more)
    assert (got["stop_reason"], got["stop_sequence"]) == expected


@pytest.mark.parametrize("arguments", ["", None, "{}", " "])
def test_a_call_without_arguments(arguments):
    """A tool call whose arguments the engine left out has an empty input."""
    call = {"id": "a", "function": {"name": "f", "arguments": arguments}}
    assert translated({"tool_calls": [call]})["content"][0]["input"] == {}


def test_a_call_without_an_id():
    """A tool call that the engine gave no id gets one."""
    block = translated({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]})["content"][0]
    assert re.fullmatch(r"toolu_\w{10,}", block["id"])


def test_a_call_cut_by_the_bound_on_tokens():
    """What max_tokens cut inside a tool's arguments has no input, and its stop_reason says why."""
    message = from_chat(recorded_whole("tool_cut"), request=REQUEST)
    assert (message["stop_reason"], message["content"][0]["input"]) == ("max_tokens", {})


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 3}, {"prompt_tokens": 3, "prompt_tokens_details": None}])
def test_usage_is_always_there(usage):
    """All four counts are present whatever the engine tells; none is below zero."""
    got = translated({"content": "x"}, usage=usage)["usage"]
    assert set(got) == {
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
    }
    assert all(isinstance(count, int) and count >= 0 for count in got.values())


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"choices": []},
        {"choices": [{}]},
        {"choices": "x"},
        {"error": {"message": "x"}},
        answer({"content": 5}),
        answer({"tool_calls": [{"id": "a"}]}),
        answer({"tool_calls": [{"function": {"name": "", "arguments": "{}"}}]}),
        answer({"tool_calls": [{"function": {"name": "f", "arguments": '{"a": '}}]}),
        answer({"tool_calls": [{"function": {"name": "f", "arguments": '"text"'}}]}),
        [],
        None,
    ],
)
def test_a_malformed_answer(broken):
    """What is no chat completion, or calls a tool with what is no JSON object, is the upstream's error: a 502."""
    with pytest.raises(CortexError) as caught:
        from_chat(broken, request=REQUEST)
    assert (caught.value.status, caught.value.code) == (502, "upstream_malformed_response")


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_the_vendors_types_take_it(events):
    """Every Message holds against the types of Anthropic's own SDK."""
    Message.model_validate_json(orjson.dumps(from_chat(whole(events), request=REQUEST)), strict=True)

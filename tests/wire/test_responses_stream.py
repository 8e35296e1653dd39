"""clients.md 5.2, events: the engine's stream as the official sequence, and a whole answer as the same Response."""

import json
from itertools import chain
from typing import Any

import orjson
import pytest
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
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from cortex import errors
from cortex.wire import sse
from cortex.wire.responses import StreamTranslator, from_chat

NAMESPACE = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers",
    "tools": [{"type": "function", "name": "find", "parameters": {"type": "object"}, "strict": False}],
}
TOOL = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}
REQUEST: dict[str, Any] = {
    "model": "m",
    "input": "hi",
    "instructions": "Be brief.",
    "tools": [TOOL, NAMESPACE, {"type": "web_search"}],
    "reasoning": {"effort": "low", "summary": "auto"},
    "metadata": {"a": "b"},
    "temperature": 0,
}
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
ENDS = ("response.completed", "response.incomplete", "response.failed")


def translator(**more):
    return StreamTranslator(REQUEST | more, response_id="resp_1", now=lambda: 1000.5)


def translate(*pieces, **more):
    one = translator(**more)
    return b"".join([one.start(), *map(one.push, pieces), one.end()])


def parsed(sent):
    """The events as JSON; the numbers count up from the first."""
    events = named_events(sent)
    first = events[0]["sequence_number"] if events else 0
    assert [event["sequence_number"] for event in events] == list(range(first, first + len(events)))
    return events


def types(sent):
    return [event["type"].removeprefix("response.") for event in parsed(sent)]


def as_whole(events, **more):
    return json.loads(
        orjson.dumps(from_chat(whole(events), request=REQUEST | more, response_id="resp_1", now=lambda: 1000))
    )


def check_order(events):
    """The grammar of a stream: created, in_progress, items one after the other and each added before its deltas, one end."""
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    index, item_id = -1, None
    for event in events[2:-1]:
        match event["type"]:
            case "response.output_item.added":
                assert item_id is None
                assert event["output_index"] == index + 1
                index, item_id = event["output_index"], event["item"]["id"]
            case "response.output_item.done":
                assert (event["output_index"], event["item"]["id"]) == (index, item_id)
                item_id = None
            case "response.in_progress":
                pass
            case _:
                assert (event["output_index"], event["item_id"]) == (index, item_id)
                assert event.get("content_index", 0) == event.get("summary_index", 0) == 0
    assert events[-1]["type"] in ENDS
    assert sum(event["type"] in ENDS for event in events) == 1
    if events[-1]["type"] != "response.failed":
        assert item_id is None
        assert len(events[-1]["response"]["output"]) == index + 1


# ---- what every stream holds to


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_the_order_of_events(events):
    """created, in_progress, each item added before its deltas and done before the next, then exactly one end."""
    check_order(parsed(translate(events)))


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_the_vendors_types_take_every_event(events):
    """Every event holds against the types of OpenAI's own SDK, with all fields that they require."""
    for event in parsed(translate(events)):
        EVENT.validate_python(event)


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "reasoning after text"])
def test_a_stream_ends_in_the_whole_answer(name):
    """The last event's response is the Response that the same answer gives as a whole: function calls and reasoning too."""
    assert parsed(translate(STREAMS[name]))[-1]["response"] == as_whole(STREAMS[name])


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_the_official_sdk_adds_it_up(events):
    """OpenAI's SDK takes every event, and what it adds up from deltas is what the items say when they are done."""
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=omit, text_format=omit)
    done: dict[int, Any] = {}
    for event in parsed(translate(events)):
        for typed in state.handle_event(EVENT.validate_python(event)):
            if typed.type == "response.output_text.delta":
                done[typed.output_index] = typed.snapshot
            if typed.type == "response.function_call_arguments.delta":
                done[typed.output_index] = typed.snapshot
            if typed.type == "response.output_item.done" and typed.item.type == "message":
                assert [part.to_dict()["text"] for part in typed.item.content] == [done[typed.output_index]]
            if typed.type == "response.output_item.done" and typed.item.type == "function_call":
                assert typed.item.arguments == done[typed.output_index]


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_every_cut_gives_the_same_events(events):
    """However a stream arrives, it is translated to the same bytes."""
    check_every_cut(translate, events)


@given(CUTS)
def test_many_cuts_give_the_same_events(cut):
    """The same holds for any number of cuts, down to single bytes."""
    events, cuts = cut
    assert translate(*pieces_at(events, *cuts)) == translate(events)


# ---- one thing at a time


def test_a_text():
    """The official sequence of a text, with item ids, indices and the fields that SDKs require."""
    sent = parsed(translate(HAND_MADE["text"]))
    at = {"item_id": "msg_1_0", "output_index": 0, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    item = {"id": "msg_1_0", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    full = empty | {"text": "Hi there"}
    done = item | {"status": "completed", "content": [full]}
    assert [{k: v for k, v in event.items() if k != "sequence_number"} for event in sent[2:-1]] == [
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **at, "part": empty},
        {"type": "response.output_text.delta", **at, "delta": "Hi", "logprobs": []},
        {"type": "response.output_text.delta", **at, "delta": " there", "logprobs": []},
        {"type": "response.output_text.done", **at, "text": "Hi there", "logprobs": []},
        {"type": "response.content_part.done", **at, "part": full},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
    ]
    assert [sent[0]["sequence_number"], sent[-1]["type"]] == [0, "response.completed"]


def test_the_response_object():
    """The last response has an id, model, status, the whole output, usage with its details, and an echo of the request."""
    response = parsed(translate(HAND_MADE["text"]))[-1]["response"]
    assert response["usage"] == {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 25,
    }
    del response["usage"], response["output"]
    assert response == {
        "id": "resp_1",
        "object": "response",
        "created_at": 1000,
        "completed_at": 1000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": "Be brief.",
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {"a": "b"},
        "model": "m",
        "background": False,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": "low", "summary": "auto"},
        "safety_identifier": None,
        "service_tier": "default",
        "store": False,
        "temperature": 0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [TOOL | {"description": None, "strict": None}, NAMESPACE, {"type": "web_search"}],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
    }


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_the_vendors_type_takes_a_whole_answer(events):
    """A Response that was not streamed holds against OpenAI's own type."""
    Response.model_validate(as_whole(events))


def test_function_calls():
    """A function call streams its arguments, and output_item.done has it complete, under the engine's own call id."""
    sent = parsed(translate(HAND_MADE["text then two tools"]))
    done = [event["item"] for event in sent if event["type"] == "response.output_item.done"]
    assert done[1] == {
        "id": "fc_1_1",
        "type": "function_call",
        "status": "completed",
        "call_id": "a1",
        "name": "get_weather",
        "arguments": '{"city": "Paris"}',
    }
    deltas = [
        e["delta"] for e in sent if e["type"] == "response.function_call_arguments.delta" and e["output_index"] == 1
    ]
    assert "".join(deltas) == done[1]["arguments"]
    finished = [e for e in sent if e["type"] == "response.function_call_arguments.done"]
    assert [(e["name"], e["arguments"]) for e in finished] == [(item["name"], item["arguments"]) for item in done[1:]]
    assert as_whole(HAND_MADE["text then two tools"])["output"][1:] == done[1:]


def test_a_namespace_is_mapped_back():
    """The call of a namespace's member is told with the namespace and the member's own name, streamed and whole."""
    events = stream(call(0, "{}", name="crm__find", id="a1"), finish="tool_calls")
    (item,) = parsed(translate(events))[-1]["response"]["output"]
    assert (item["namespace"], item["name"]) == ("crm", "find")
    assert as_whole(events)["output"] == [item]


def test_arguments_that_never_came():
    """A call without arguments has `{}`, in its delta too."""
    sent = parsed(translate(HAND_MADE["arguments never"]))
    assert [e["delta"] for e in sent if e["type"].endswith("arguments.delta")] == ["{}", "{}"]
    assert [item["arguments"] for item in sent[-1]["response"]["output"]] == ["{}", "{}"]


def test_arguments_that_are_no_json():
    """Arguments are the model's words: what is no JSON is passed on for the client to answer."""
    events = stream(call(0, '{"a": ', name="f", id="a"), finish="tool_calls")
    assert parsed(translate(events))[-1]["response"]["output"][0]["arguments"] == '{"a": '


def test_reasoning_with_a_summary():
    """Reasoning is an item of its own before the text: its text, and the summary that the client asked for."""
    sent = translate(HAND_MADE["reasoning then text"])
    assert types(sent)[2:16] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "content_part.added",
        *["reasoning_summary_text.delta", "reasoning_text.delta"] * 2,
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
    ]
    assert parsed(sent)[-1]["response"]["output"][0] == {
        "id": "rs_1_0",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "Hm."}],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
        "encrypted_content": None,
        "status": "completed",
    }


@pytest.mark.parametrize("reasoning", [None, {}, {"summary": None}, {"effort": "high"}])
def test_reasoning_without_a_summary(reasoning):
    """No summary is made for a client that asked for none; the reasoning's text is there."""
    sent = translate(HAND_MADE["reasoning then text"], reasoning=reasoning)
    assert not [name for name in types(sent) if "summary" in name]
    item = parsed(sent)[-1]["response"]["output"][0]
    assert (item["summary"], item["content"]) == ([], [{"type": "reasoning_text", "text": "Hm."}])


def test_logprobs():
    """Log probabilities go with their delta, and all of them with the whole text."""
    sent = parsed(translate(recorded("logprobs")))
    deltas = [event["logprobs"] for event in sent if event["type"] == "response.output_text.delta"]
    assert deltas[0][0]["token"] == "Hello"
    assert list(chain.from_iterable(deltas)) == sent[-1]["response"]["output"][0]["content"][0]["logprobs"]


@pytest.mark.parametrize("name", ["length", "tool_cut"])
def test_incomplete(name):
    """An answer that the bound on tokens ended is incomplete, and so is its last item."""
    last = parsed(translate(recorded(name)))[-1]
    assert last["type"] == "response.incomplete"
    for response in (last["response"], from_chat(recorded_whole(name), request=REQUEST)):
        assert response["status"] == response["output"][-1]["status"] == "incomplete"
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}
        assert response["completed_at"] is None


def test_start_and_keep_alive():
    """created and in_progress come before any token; in_progress() is an event for a silence, numbered like the others."""
    one = translator()
    sent = one.start() + one.start() + one.in_progress() + one.push(HAND_MADE["text"])
    check_order(parsed(sent))
    assert types(sent)[:4] == ["created", "in_progress", "in_progress", "output_item.added"]
    assert one.in_progress() == b""
    assert types(translator().in_progress()) == ["created", "in_progress"]


def test_pieces_are_sent_as_they_come():
    """Nothing is held back: each of the engine's events gives its delta at once."""
    one = translator()
    one.push(chunk({"content": "a"}))
    assert types(one.push(chunk({"content": "b"}))) == ["output_text.delta"]


def test_the_end_comes_once():
    """[DONE], the upstream's end and a late failure together end the stream exactly once."""
    one = translator()
    assert types(one.push(HAND_MADE["text"]))[-1] == "completed"
    assert [one.end(), one.fail(errors.internal()), one.push(HAND_MADE["text"]), one.start()] == [b""] * 4
    assert one.error is None
    assert translate(HAND_MADE["text"].removesuffix(DONE)) == translate(HAND_MADE["text"])


# ---- errors


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (errors.context_length_exceeded(9, 5), "context_length_exceeded", "maximum context length is 5"),
        (errors.over_capacity("busy", retry_after=4.2), "rate_limit_exceeded", "busy. Please try again in 5s."),
        (errors.CortexError("no more", status=429, type="insufficient_quota"), "insufficient_quota", "no more"),
        (errors.unavailable("loading", retry_after=3), "server_error", "loading. Please try again in 3s."),
        (errors.upstream_stalled(30), "server_error", "sent nothing"),
        (errors.model_not_found("x"), "invalid_prompt", "not found"),
        (errors.internal(), "server_error", "internal error"),
    ],
)
def test_failures(error, code, says):
    """response.failed has the codes that Codex acts on, and the time to wait in the words that it reads."""
    one = translator()
    sent = parsed(one.push(chunk({"content": "Hi"})) + one.fail(error))
    check_order(sent)
    response = sent[-1]["response"]
    assert (sent[-1]["type"], response["status"]) == ("response.failed", "failed")
    assert response["error"]["code"] == code
    assert says in response["error"]["message"]
    assert one.error is error


def test_a_failure_before_and_after_tokens():
    """A failure ends any stream: items that were done stay, the open one is never said to be done."""
    assert types(translator().fail(errors.internal())) == ["created", "in_progress", "failed"]
    one = translator()
    sent = one.push(chunk({"content": "Hi"}) + chunk(call(0, '{"rm": "/', name="f", id="a")))
    sent += one.fail(errors.upstream_failed("gone"))
    check_order(parsed(sent))
    assert [item["type"] for item in parsed(sent)[-1]["response"]["output"]] == ["message"]


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_a_truncated_upstream(events):
    """Wherever the upstream breaks off, the stream ends: as it should if the finish reason had come, else as failed."""
    for part, finished in beginnings(events):
        sent = parsed(translate(part))
        check_order(sent)
        assert (sent[-1]["type"] == "response.failed") is not finished


@pytest.mark.parametrize(
    "nonsense",
    [
        b"data: {not json\n\n",
        b"data: []\n\n",
        b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
        chunk(call(0, '{"a": 1}')) + chunk({}, finish="tool_calls") + DONE,
        sse.event(b'{"error":{"message":"out of memory","code":500}}'),
    ],
)
def test_a_malformed_upstream(nonsense):
    """What cannot be read, and an error event of the engine, end in response.failed, and nothing follows."""
    one = translator()
    sent = parsed(one.push(chunk({"content": "Hi"})) + one.push(nonsense) + one.push(HAND_MADE["text"]) + one.end())
    check_order(sent)
    assert sent[-1]["response"]["error"]["code"] == "server_error"


@given(st.sampled_from(sorted(HAND_MADE)), st.integers(0), st.binary(min_size=1, max_size=6))
def test_damage_anywhere_is_survived(name, place, damage):
    """Bytes overwritten anywhere in the upstream's stream never raise, and leave a well-formed stream."""
    events = HAND_MADE[name]
    place %= len(events)
    damaged = events[:place] + damage + events[place + len(damage) :]
    check_order(parsed(translate(*pieces_at(damaged))))


def test_a_malformed_answer():
    """What is no chat completion is the upstream's error: a 502."""
    with pytest.raises(errors.CortexError) as caught:
        from_chat({"choices": []}, request=REQUEST)
    assert caught.value.status == 502

"""Ollama's requests and answers."""

import json

import pytest
from helpers.chat_streams import HAND_MADE, STREAMS, pieces_at, whole
from helpers.fake_neuron import STREAM_EVENTS, chunk

from cortex.errors import CortexError
from cortex.wire import ollama

ASK = {"model": "m:latest", "messages": [{"role": "user", "content": "hi"}]}
PNG = "iVBORw0KGgo="


def lines_of(data):
    return [json.loads(line) for line in data.splitlines()]


def streamed(asked, *pieces):
    translator = ollama.StreamTranslator(asked)
    return lines_of(b"".join([*map(translator.push, pieces), translator.end()]))


def test_a_chat_is_a_stream_unless_it_says_otherwise():
    """The tag `latest` falls away, options keep their names, and what would reload the model is left out."""
    options = {"num_ctx": 99, "num_predict": 7, "temperature": 0.5, "top_k": 3, "stop": ["a"], "repeat_penalty": 1.1}
    asked = ollama.read_chat(ASK | {"options": options, "keep_alive": "5m", "think": True})
    assert asked.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "chat_template_kwargs": {"enable_thinking": True},
        "temperature": 0.5,
        "repeat_penalty": 1.1,
        "top_k": 3,
        "max_tokens": 7,
        "stop": ["a"],
    }
    assert (asked.path, asked.stream, asked.empty) == ("/v1/chat/completions", True, False)
    assert not ollama.read_chat(ASK | {"stream": False}).stream
    assert ollama.read_chat({"model": "m"}).empty
    assert "max_tokens" not in ollama.read_chat(ASK | {"options": {"num_predict": -1}}).body


def test_results_answer_the_calls_before_them():
    """Calls have no ids in this API: by name where the result says one, else in their order."""
    calls = [{"function": {"name": name, "arguments": {"n": 1}}} for name in ("a", "b")]
    messages = [
        {"role": "assistant", "content": "", "thinking": "Hm", "tool_calls": calls},
        {"role": "tool", "content": "for b", "tool_name": "b"},
        {"role": "tool", "content": "for a"},
    ]
    said, first, second = ollama.read_chat(ASK | {"messages": messages}).body["messages"]
    ids = {call["function"]["name"]: call["id"] for call in said["tool_calls"]}
    assert (first["tool_call_id"], second["tool_call_id"]) == (ids["b"], ids["a"])
    assert (said["content"], said["reasoning_content"]) == (None, "Hm")
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {"n": 1}


def test_images_are_parts_of_their_message():
    """Bare base64 becomes a data URL of its kind."""
    messages = [{"role": "user", "content": "what?", "images": [PNG, "/9j/4AAQ"]}]
    text, png, jpeg = ollama.read_chat(ASK | {"messages": messages}).body["messages"][0]["content"]
    assert text == {"type": "text", "text": "what?"}
    assert png["image_url"]["url"] == f"data:image/png;base64,{PNG}"
    assert jpeg["image_url"]["url"].startswith("data:image/jpeg;")


def test_a_prompt_is_a_message_unless_it_is_raw():
    """With a system text before it; raw and with a suffix it is a completion."""
    asked = ollama.read_generate({"model": "m", "prompt": "hi", "system": "Be brief.", "format": "json"})
    assert [message["role"] for message in asked.body["messages"]] == ["system", "user"]
    assert asked.body["response_format"] == {"type": "json_object"}
    raw = ollama.read_generate({"model": "m", "prompt": "hi", "raw": True})
    assert (raw.path, raw.body["prompt"]) == ("/v1/completions", "hi")
    filled = ollama.read_generate({"model": "m", "prompt": "a", "suffix": "b"})
    assert (filled.path, filled.body["suffix"]) == ("/v1/completions", "b")
    assert ollama.read_generate({"model": "m"}).empty
    schema = {"type": "object", "properties": {}}
    form = ollama.read_generate({"model": "m", "prompt": "x", "format": schema}).body["response_format"]
    assert form["json_schema"]["schema"] == schema


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"model": 3}, "model"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "king"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "x"}}]}]},
            "messages.0.tool_calls.0.function.arguments",
        ),
        ({"options": {"temperature": "hot"}}, "options.temperature"),
        ({"options": []}, "options"),
        ({"stream": "no"}, "stream"),
        ({"think": "much"}, "think"),
        ({"format": "xml"}, "format"),
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"keep_alive": True}, "keep_alive"),
        ({"keep_alive": "5 minutes"}, "keep_alive"),
        ({"keep_alive": ""}, "keep_alive"),
        ({"keep_alive": "9" * 400}, "keep_alive"),
    ],
)
def test_a_mistake_names_its_field(more, field):
    """400, with the place in the request."""
    with pytest.raises(CortexError) as wrong:
        ollama.read_chat(ASK | more)
    assert (wrong.value.status, wrong.value.param) == (400, field)


@pytest.mark.parametrize(
    ("keep_alive", "seconds"),
    [
        (0, 0),
        (-1, -1),
        (-7.5, -1),
        (300, 300),
        (1.5, 1.5),
        ("0", 0),
        ("300", 300),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("-1", -1),
        ("-1m", -1),
        (None, None),
    ],
)
def test_how_long_a_model_is_kept_may_be_said_in_many_ways(keep_alive, seconds):
    """Seconds and durations, in every request that has a model answer; whatever is negative is "for ever"."""
    said = {"keep_alive": keep_alive}
    assert ollama.read_chat(ASK | said).keep_alive == pytest.approx(seconds)
    assert ollama.read_generate({"model": "m", "prompt": "x", **said}).keep_alive == pytest.approx(seconds)
    assert ollama.read_generate({"model": "m", "raw": True, **said}).keep_alive == pytest.approx(seconds)
    assert ollama.read_embed({"model": "m", "input": "x", **said}, "input")[1] == pytest.approx(seconds)


def test_a_stream_is_lines():
    """Pieces of the message, then one line with the reason and the figures."""
    told = streamed(ollama.read_chat(ASK), *STREAM_EVENTS)
    assert [line["message"]["content"] for line in told] == ["Par", "is", ""]
    assert [line["done"] for line in told] == [False, False, True]
    last = told[-1]
    assert (last["done_reason"], last["prompt_eval_count"], last["eval_count"]) == ("stop", 7, 3)
    assert last["total_duration"] >= last["eval_duration"] >= 0
    assert {line["model"] for line in told} == {"m"}


def translated(pieces):
    translator = ollama.StreamTranslator(ollama.read_chat(ASK), ollama.Clock(lambda: 1.0, lambda: 1.0))
    return b"".join([*map(translator.push, pieces), translator.end()])


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_every_cut_gives_the_same_lines(events):
    """A stream that arrives cut at any byte is translated to the same lines, and they say what was streamed."""
    expected = translated([events])
    for cut in range(len(events)):
        assert translated(pieces_at(events, cut)) == expected
    told = lines_of(expected)
    message = whole(events)["choices"][0]["message"]
    assert "".join(line["message"]["content"] for line in told) == (message.get("content") or "")
    assert [line["done"] for line in told] == [False] * (len(told) - 1) + [True]


@pytest.mark.parametrize("events", HAND_MADE.values(), ids=HAND_MADE)
def test_a_stream_that_is_cut_short_ends_with_an_error(events):
    """Wherever its end is missing: whole lines, and the last one says so, unless the finish was there already."""
    for end in range(0, len(events), 7):
        told = lines_of(translated(pieces_at(events[:end])))
        assert [("error" in line or line.get("done")) for line in told] == [False] * (len(told) - 1) + [True]


def test_thinking_and_calls_have_their_own_fields():
    """Reasoning is `thinking`; a call comes when it is whole, with its arguments as an object."""
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a"'}}
    more = {"index": 0, "function": {"arguments": ": 1}"}}
    events = (
        chunk({"reasoning_content": "Hm"}),
        chunk({"tool_calls": [call]}),
        chunk({"tool_calls": [more]}),
        chunk({}, "tool_calls"),
        b"data: [DONE]\n\n",
    )
    thought, called, last = streamed(ollama.read_chat(ASK), *events)
    assert thought["message"]["thinking"] == "Hm"
    assert called["message"]["tool_calls"] == [{"function": {"name": "f", "arguments": {"a": 1}}}]
    assert last["done_reason"] == "stop"


def test_a_completion_streams_its_text():
    """Raw prompts are completions, whose chunks have their text elsewhere."""
    asked = ollama.read_generate({"model": "m", "prompt": "x", "raw": True})
    event = b'data: {"choices":[{"index":0,"text":"abc","finish_reason":null}]}\n\n'
    end = b'data: {"choices":[{"index":0,"text":"","finish_reason":"length"}]}\n\ndata: [DONE]\n\n'
    told = streamed(asked, event, end)
    assert [line["response"] for line in told] == ["abc", ""]
    assert told[-1]["done_reason"] == "length"


@pytest.mark.parametrize(
    "bad",
    [b"data: {nonsense}\n\n", b'data: {"error": {"message": "it died"}}\n\n', b""],
    ids=["malformed", "told", "cut"],
)
def test_a_stream_that_breaks_off_ends_with_an_error(bad):
    """One line says why, and nothing follows it."""
    told = streamed(ollama.read_chat(ASK), chunk({"content": "Par"}), bad)
    assert list(told[-1]) == ["error"]
    assert [("error" in line) for line in told] == [False, True]


def test_whole_answers():
    """The same fields as the last line of a stream, with all of the text."""
    call = {"id": "c", "function": {"name": "f", "arguments": '{"a": 1}'}}
    message = {"content": "x", "reasoning_content": "Hm", "tool_calls": [call]}
    answer = {
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
    }
    told = ollama.from_completion(answer, ollama.read_chat(ASK | {"stream": False}), ollama.Clock())
    assert (told["message"]["content"], told["message"]["thinking"]) == ("x", "Hm")
    assert told["message"]["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert (told["done"], told["prompt_eval_count"], told["eval_count"]) == (True, 5, 2)
    broken = {"tool_calls": [{"function": {"name": "f", "arguments": "x"}}]}
    for choices in (None, [], [{"message": broken}]):
        with pytest.raises(CortexError) as failed:
            ollama.from_completion({"choices": choices}, ollama.read_chat(ASK), ollama.Clock())
        assert failed.value.status == 502


def test_arguments_that_nest_too_deeply_to_be_written_are_an_error_of_the_model():
    """They come as text, and leave as an object in a line of JSON."""
    deep = '{"a":' + "[" * 300 + "]" * 300 + "}"
    call = {"function": {"name": "f", "arguments": deep}}
    with pytest.raises(CortexError, match="the arguments of its call of 'f'"):
        answered({"content": None, "tool_calls": [call]})
    stream = ollama.StreamTranslator(ollama.read_chat({"model": "m", "messages": [{"role": "user", "content": "x"}]}))
    sent = stream.push(chunk({"tool_calls": [{"index": 0, **call}]}) + chunk({}, "tool_calls") + b"data: [DONE]\n\n")
    assert "the arguments of its call of 'f'" in json.loads(sent.splitlines()[-1])["error"]
    assert stream.over


def answered(message):
    """A whole answer as Ollama's client gets it."""
    asked = ollama.read_chat({"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": False})
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {}}
    return ollama.from_completion(answer, asked, ollama.Clock())


def test_no_vector_is_no_embedding():
    """The older form looks for the first one."""
    with pytest.raises(CortexError, match="no embeddings"):
        ollama.from_embeddings({"data": []}, "m", ollama.Clock())


def test_embeddings_in_their_order():
    """Vectors as the inputs stood."""
    data = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    told = ollama.from_embeddings({"data": data, "usage": {"prompt_tokens": 4}}, "m", ollama.Clock())
    assert (told["embeddings"], told["prompt_eval_count"]) == ([[1.0], [2.0]], 4)
    assert ollama.read_embed({"model": "m", "input": ["a", "b"], "dimensions": 8}, "input")[0] == {
        "model": "m",
        "input": ["a", "b"],
        "encoding_format": "float",
        "dimensions": 8,
    }
    for texts in (None, 3, [], [3]):
        with pytest.raises(CortexError):
            ollama.read_embed({"model": "m", "input": texts}, "input")


@pytest.mark.parametrize("expires", [None, 1e12, 1e308, float("nan"), float("inf"), -1e300])
def test_a_model_that_leaves_after_all_time_stays_for_ever(expires):
    """An idle time beyond what a date can tell is told as Ollama tells "never"."""
    entry = {"id": "m", "created_at": "2026-11-23T00:00:00Z", "loaded": True, "expires": expires}
    (told,) = ollama.running([entry])["models"]
    assert told["expires_at"] == "2318-01-01T00:00:00Z"

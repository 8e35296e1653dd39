"""What a request may say to an engine, field by field."""

from dataclasses import replace

import orjson
import pytest

from cortex.errors import CortexError
from cortex.neuron.harness.llamacpp import LlamaCpp

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EMBEDDINGS, RERANK = "/v1/embeddings", "/v1/rerank"
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
harness = LlamaCpp()


def chat(**fields):
    return {"model": "m", "messages": [USER], **fields}


def allowing(*names, mode="auto"):
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def refusal(path, body, spec) -> CortexError:
    with pytest.raises(CortexError) as refused:
        harness.prepare(path, body, spec)
    return refused.value


def passes(path, body, spec) -> bool:
    """Everything of a generation's request is sent as it is, but for what makes it a stream and says `tool_choice` and `logprobs`."""
    before, sent = orjson.dumps(body), harness.prepare(path, body, spec).body
    ours = ("stream", "stream_options", "tools", "tool_choice", "logprobs", "top_logprobs")
    return orjson.dumps(body) == before and all(sent[field] == body[field] for field in body if field not in ours)


@pytest.mark.parametrize(
    "body",
    [
        chat(),
        chat(stream=True, stream_options={"include_usage": True}),
        chat(temperature=0, top_p=1, n=4, seed=-1, max_tokens=1, stop="x", frequency_penalty=-2),
        chat(max_tokens=-1, n_predict=-1),
        chat(temperature=None, top_p=None, n=None, stop=None, tools=None, max_tokens=None, response_format=None),
        chat(stop=["a", "b"], logit_bias={"5": 1}, logprobs=True, top_logprobs=20),
        chat(top_logprobs=0, logprobs=False),
        chat(tools=[], tool_choice="auto"),
        chat(tools=[TOOL], tool_choice="required"),
        chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "f"}}),
        chat(response_format={"type": "json_object"}),
        chat(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}),
        chat(some_future_field={"x": 1}, metadata={}, store=False),
        chat(messages=[{"role": "developer", "content": "be kind"}, USER]),
        chat(
            messages=[
                USER,
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "content": "x"},
            ]
        ),
        chat(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}]),
    ],
)
def test_a_sound_chat_request_passes_untouched(body, spec):
    """Nothing is changed, and unknown fields pass."""
    assert passes(CHAT, body, spec)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [USER, 1]}, "messages[1]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "bogus", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": 5}]}]}, "messages[0].content[0]"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": "x"}]}, "messages[1].tool_calls"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{}]}]}, "messages[1].tool_calls"),
        ({"n": 0}, "n"),
        ({"n": 5}, "n"),
        ({"n": True}, "n"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": 5}, "stream_options"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", 1]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"seed": 1.5}, "seed"),
        ({"logit_bias": "x"}, "logit_bias"),
        ({"logit_bias": {"5": "much"}}, "logit_bias"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": "x"}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]}, "tools"),
        ({"tools": [TOOL], "tool_choice": "required", "grammar": "root ::= [a]"}, "grammar"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": ["text"]}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"tools": "x"}, "tools"),
        ({"tools": [1]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL, {"type": "custom", "custom": {"name": "patch"}}]}, "tools[1].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools"),
        ({"tools": [TOOL], "tool_choice": "bogus"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": 5}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tools"),
        ({"tools": [TOOL], "tool_choice": allowing("g")}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": allowing("f", mode="none")}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": allowing(mode="required")}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": []}}, "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": {**allowing(), "allowed_tools": {"mode": "auto", "tools": [{}]}}},
            "tool_choice",
        ),
        ({"tools": "x", "tool_choice": allowing("f")}, "tool_choice"),
        ({"tools": 5, "tool_choice": allowing("f")}, "tool_choice"),
    ],
)
def test_a_mistake_in_a_chat_request_is_named(fields, param, spec):
    """400 with the field, and with what would be right."""
    error = refusal(CHAT, chat(**fields), spec)
    assert (error.status, error.type, error.param) == (400, "invalid_request_error", param)
    assert param.partition("[")[0] in error.message


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_only_allowed_tools_are_shown(mode, spec):
    """The engine gets those alone, with the mode as its choice; none allowed is none shown."""
    other = {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}}
    body = chat(tools=[TOOL, other], tool_choice=allowing("g", mode=mode))
    narrow = chat(tools=[other], tool_choice=mode)
    assert harness.prepare(CHAT, body, spec).body == harness.prepare(CHAT, narrow, spec).body
    assert body["tools"] == [TOOL, other]
    none = harness.prepare(CHAT, chat(tools=[TOOL, other], tool_choice=allowing()), spec).body
    assert none == harness.prepare(CHAT, chat(), spec).body


def test_images_want_a_projector(spec):
    """An image to a text model is refused by name; to a model with a projector it passes."""
    body = chat(messages=[{"role": "user", "content": [{"type": "text", "text": "what is it?"}, IMAGE]}])
    error = refusal(CHAT, body, spec)
    assert (error.status, error.code, error.param) == (400, "vision_unsupported", "messages[0].content[1]")
    assert passes(CHAT, body, replace(spec, mmproj="/p.gguf"))


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({}, {}),
        ({"max_tokens": 50}, {"max_tokens": 50}),
        ({"max_tokens": 500}, {"max_tokens": 100}),
        ({"max_tokens": 500, "max_completion_tokens": 70}, {"max_tokens": 100, "max_completion_tokens": 70}),
        ({"n_predict": 500, "max_tokens": None}, {"n_predict": 100, "max_tokens": None}),
        ({"max_tokens": -1}, {"max_tokens": -1}),
    ],
)
def test_the_operator_s_bound_holds(fields, sent, spec):
    """With `max_output_tokens` set no request gets a longer answer; where none is named the engine's own bound counts."""
    body = chat(**fields)
    before = dict(body)
    prepared = harness.prepare(CHAT, body, replace(spec, output_cap=100)).body
    assert {field: value for field, value in prepared.items() if field in chat(**sent)} == chat(**sent)
    assert body == before


@pytest.mark.parametrize("prompt", ["hi", "", [1, 2], ["a", "b"], [[1], [2]]])
def test_sound_prompts(prompt, spec):
    """Texts, tokens and lists of them."""
    body = {"model": "m", "prompt": prompt}
    assert passes(COMPLETIONS, body, spec)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": "x", "n": 9}, "n"),
        ({"prompt": "x", "logprobs": True}, "logprobs"),
        ({"prompt": "x", "echo": "yes"}, "echo"),
        ({"prompt": [1, 2], "echo": True}, "echo"),
        ({"prompt": "x", "echo": True, "logprobs": 1}, "echo"),
    ],
)
def test_mistakes_in_completions(fields, param, spec):
    """The legacy route is checked as well."""
    assert refusal(COMPLETIONS, {"model": "m", **fields}, spec).param == param


@pytest.mark.parametrize("value", ["hi", ["a", "b"], [1, 2, 3], [[1, 2], [3]]])
def test_sound_embedding_inputs(value, spec):
    """The four shapes of OpenAI's API."""
    body = {"model": "m", "input": value}
    assert harness.prepare(EMBEDDINGS, body, replace(spec, mode="embedding")).body is body


@pytest.mark.parametrize(
    "value", [None, "", [], [""], 5, {"a": 1}, ["a", 5], [[]], [[1], "a"], ["a", None], [1, -2], [True]]
)
def test_mistakes_in_embedding_inputs(value, spec):
    """Other shapes are refused, also those that the engine would make something of."""
    error = refusal(EMBEDDINGS, {"model": "m", "input": value}, replace(spec, mode="embedding"))
    assert (error.status, error.param) == (400, "input")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "query"),
        ({"query": "x"}, "documents"),
        ({"query": 5, "documents": ["a"]}, "query"),
        ({"query": "", "documents": [""]}, "query"),  # llama.cpp would die of it
        ({"query": "x", "documents": []}, "documents"),
        ({"query": "x", "documents": ["a", 1]}, "documents"),
    ],
)
def test_mistakes_in_rerank(fields, param, spec):
    """Reranking wants a query and documents."""
    assert refusal(RERANK, {"model": "m", **fields}, replace(spec, mode="rerank")).param == param


@pytest.mark.parametrize(
    ("mode", "path"),
    [("embedding", CHAT), ("embedding", COMPLETIONS), ("rerank", EMBEDDINGS), ("chat", EMBEDDINGS), ("chat", RERANK)],
)
def test_a_model_for_something_else(mode, path, spec):
    """A chat engine embeds nothing and an embedding engine does not chat, although llama.cpp would try."""
    error = refusal(path, chat(input="x", prompt="x", query="x", documents=["x"]), replace(spec, mode=mode))
    assert (error.status, error.code) == (422, "wrong_modality")


def test_other_routes_pass(spec):
    """What is not checked here is sent as it is."""
    body = {"content": "x"}
    assert harness.prepare("/tokenize", body, spec).body is body


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        (CHAT, "modalities", ["text", "audio"]),
        (CHAT, "audio", {"voice": "alloy", "format": "wav"}),
        (CHAT, "web_search_options", {}),
        (CHAT, "functions", [{"name": "f"}]),
        (CHAT, "function_call", {"name": "f"}),
        (CHAT, "n_cmpl", 2),
        (COMPLETIONS, "suffix", "the end"),
        (COMPLETIONS, "best_of", 3),
        (COMPLETIONS, "n_cmpl", 2),
        (EMBEDDINGS, "dimensions", 16),
    ],
)
def test_what_the_engine_would_ignore_is_refused_by_name(path, field, value, spec):
    """A parameter that changes the answer and cannot be honoured is an error, not a surprise."""
    mode = "embedding" if path == EMBEDDINGS else "chat"
    error = refusal(path, chat(prompt="x", input="x", **{field: value}), replace(spec, mode=mode))
    assert (error.status, error.code, error.param) == (400, "unsupported_parameter", field)
    assert f"'{field}'" in error.message


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"modalities": ["text"], "audio": None, "function_call": "auto", "functions": []}),
        (CHAT, {"prediction": {"type": "content", "content": "x"}, "service_tier": "auto", "store": True, "user": "u"}),
        (COMPLETIONS, {"suffix": "", "best_of": 1}),
    ],
)
def test_what_may_be_ignored_is(path, fields, spec):
    """Hints, accounts, and values that mean nothing pass."""
    assert passes(path, chat(prompt="x", **fields), spec)


@pytest.mark.parametrize(
    "image_url",
    [
        {"url": "http://127.0.0.1/a.png"},
        {"url": "HTTPS://example.org/a.png"},
        {"url": "file:///etc/passwd"},
        {"url": "iVBORw0KGgo="},
        {"url": None},
        {},
        "http://127.0.0.1/a.png",
        None,
    ],
)
def test_an_engine_is_shown_data_and_never_a_place(image_url, spec):
    """It would fetch URLs and open files by itself: only data URLs reach it."""
    for kind in ("image_url", "video_url"):
        part = {"type": kind, kind: image_url}
        error = refusal(CHAT, chat(messages=[{"role": "user", "content": [part]}]), replace(spec, mmproj="/p.gguf"))
        assert (error.status, error.code) == (400, "invalid_image_url")
        assert error.param == f"messages[0].content[0].{kind}"


FIM = {"fim": ("<P>", "<S>", "<M>")}


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [("a", "<P>a<S>b<M>"), (["a", "c"], ["<P>a<S>b<M>", "<P>c<S>b<M>"]), ([], None)],
)
def test_a_suffix_stands_behind_the_prompt(prompt, sent, spec):
    """In the model's own tokens for a middle; without a suffix nothing is put around a prompt."""
    taught = replace(spec, extras=FIM)
    if sent is None:
        assert refusal(COMPLETIONS, {"model": "m", "prompt": prompt, "suffix": "b"}, taught).param == "prompt"
        return
    body = harness.prepare(COMPLETIONS, {"model": "m", "prompt": prompt, "suffix": "b"}, taught).body
    assert body["prompt"] == sent
    assert "suffix" not in body
    for plain in ({}, {"suffix": ""}, {"suffix": None}):
        assert harness.prepare(COMPLETIONS, {"model": "m", "prompt": prompt, **plain}, taught).body["prompt"] == prompt


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": 5}, "suffix"),
        ({"suffix": "b", "prompt": [1, 2]}, "suffix"),
        ({"suffix": "b", "prompt": [[1], "a"]}, "suffix"),
    ],
)
def test_mistakes_in_a_suffix(fields, param, spec):
    """It is text, beside text."""
    error = refusal(COMPLETIONS, {"model": "m", "prompt": "a", **fields}, replace(spec, extras=FIM))
    assert (error.status, error.param) == (400, param)

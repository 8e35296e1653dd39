"""clients.md 5.2, request: what a Responses request says, as chat completions."""

import copy
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.errors import CortexError
from cortex.wire.responses import to_chat

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "name": "get_weather", "description": "Weather", "parameters": PARAMETERS, "strict": False}
FUNCTION = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather", "parameters": PARAMETERS, "strict": False},
}
MEMBER = {"type": "function", "name": "find", "description": "Finds.", "parameters": PARAMETERS}
NAMESPACE = {"type": "namespace", "name": "crm", "description": "Customers.", "tools": [MEMBER]}
HOSTED = [
    {"type": "web_search"},
    {"type": "image_generation"},
    {"type": "local_shell"},
    {"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}},
    {"type": "mcp", "server_label": "x"},
]
SCHEMA = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}, "strict": True}


def body(*items, **more):
    return {"model": "m", "input": list(items) or "hi"} | more


def message(role, content, **more):
    return {"type": "message", "role": role, "content": content, **more}


def call(call_id="c1", name="f", arguments='{"a":1}', **more):
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **more}


def output(said, call_id="c1"):
    return {"type": "function_call_output", "call_id": call_id, "output": said}


def chat_call(call_id="c1", name="f", arguments='{"a":1}'):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def messages_of(*items, **more):
    return to_chat(body(*items, **more))["messages"]


# ---- input


@pytest.mark.parametrize(
    "given_input",
    [
        "hi",
        [{"role": "user", "content": "hi"}],
        [message("user", "hi")],
        [message("user", [{"type": "input_text", "text": "hi"}])],
        [message("user", [{"type": "input_text", "text": "hi"}], id="msg_1", status="completed")],
        [message("user", [{"type": "hologram"}, {"type": "text", "text": "hi"}])],
        [{"type": "web_search_call", "id": "ws_1", "status": "completed"}, message("user", "hi")],
        [{"type": "some_future_item", "data": 1}, message("user", "hi")],
        [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xyz"}, message("user", "hi")],
    ],
)
def test_what_a_user_says(given_input):
    """Input is a string or items, typed or bare; unknown items and parts, hosted tools' calls and encrypted reasoning are skipped."""
    assert to_chat({"model": "m", "input": given_input})["messages"] == [{"role": "user", "content": "hi"}]


def test_one_leading_system_message():
    """instructions, developer and system messages all join one leading system message, wherever they stand."""
    got = messages_of(
        message("developer", [{"type": "input_text", "text": "B"}]),
        message("user", "hi"),
        message("system", "C"),
        {"role": "developer", "content": "D"},
        instructions="A",
    )
    assert got == [{"role": "system", "content": "A\n\nB\n\nC\n\nD"}, {"role": "user", "content": "hi"}]


def test_images():
    """An input_image with a URL becomes an image part, also in a function's output."""
    image = {"type": "input_image", "image_url": "data:image/png;base64,iVBO", "detail": "low"}
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO", "detail": "low"}}
    said = {"type": "input_text", "text": "see"}
    got = messages_of(message("user", [said, image]), call(), output([said, image]))
    assert [got[0]["content"], got[2]["content"]] == [[{"type": "text", "text": "see"}, part]] * 2


@pytest.mark.parametrize(
    ("said", "expected"),
    [("ok", "ok"), ([{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}], "a\nb"), ([], "")],
)
def test_calls_and_their_outputs(said, expected):
    """A function_call is the assistant's, its output (a string or an array) a tool message of the same id."""
    assert messages_of(message("user", "go"), call(), output(said)) == [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": [chat_call()]},
        {"role": "tool", "tool_call_id": "c1", "content": expected},
    ]


def test_parallel_calls_are_one_turn():
    """Calls in a row are one assistant message, with the reasoning and the text that stand beside them."""
    got = messages_of(
        message("user", "go"),
        {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
        message("assistant", [{"type": "output_text", "text": "Looking.", "annotations": []}]),
        call("c1"),
        call("c2"),
        output("1", "c1"),
        output("2", "c2"),
    )
    assert got[1] == {
        "role": "assistant",
        "content": "Looking.",
        "reasoning_content": "Hm",
        "tool_calls": [chat_call("c1"), chat_call("c2")],
    }
    assert [(m["role"], m["content"]) for m in got[2:]] == [("tool", "1"), ("tool", "2")]


def test_a_message_between_a_call_and_its_output():
    """An assistant message between a call and its output stays in the turn of the call."""
    got = messages_of(message("user", "go"), call(), message("assistant", "Wait."), output("ok"))
    assert got[1] == {"role": "assistant", "content": "Wait.", "tool_calls": [chat_call()]}
    assert got[2]["role"] == "tool"


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"summary": [{"type": "summary_text", "text": "S"}]}, "S"),
        ({"summary": [{"type": "summary_text", "text": "S"}], "content": None}, "S"),
        (
            {
                "summary": [{"type": "summary_text", "text": "S"}],
                "content": [{"type": "reasoning_text", "text": "A"}, {"type": "reasoning_text", "text": "B"}],
            },
            "A\nB",
        ),
    ],
)
def test_reasoning(item, expected):
    """A reasoning item goes back as reasoning: its text, else its summary, never both."""
    got = messages_of(message("user", "q"), {"type": "reasoning", "id": "r", **item}, message("assistant", "a"))
    assert got[1] == {"role": "assistant", "content": "a", "reasoning_content": expected}


def test_refusals_and_empty_arguments():
    """A former refusal is text, and empty arguments are an empty object."""
    refusal = message("assistant", [{"type": "refusal", "refusal": "No."}])
    got = messages_of(message("user", "q"), refusal, call(arguments=""), output("x"))
    assert got[1] == {"role": "assistant", "content": "No.", "tool_calls": [chat_call(arguments="{}")]}


@pytest.mark.parametrize("nothing", [{}, {"input": None}, {"input": []}, {"input": ""}])
def test_a_probe_with_nothing(nothing):
    """A probe with an empty input and max_output_tokens 1 is accepted."""
    chat = to_chat({"model": "m", "max_output_tokens": 1} | nothing)
    assert chat["messages"] == [{"role": "user", "content": ""}]
    assert chat["max_tokens"] == 1


# ---- tools


def test_functions_and_hosted_tools():
    """Functions in the flat shape are wrapped; hosted and custom tools are skipped, never refused."""
    assert to_chat(body(tools=[*HOSTED, TOOL]))["tools"] == [FUNCTION]
    assert "tools" not in to_chat(body(tools=HOSTED, tool_choice="auto", parallel_tool_calls=True))
    bare = {"type": "function", "name": "now", "description": None, "parameters": None, "strict": None}
    assert to_chat(body(tools=[bare]))["tools"] == [{"type": "function", "function": {"name": "now"}}]


@pytest.mark.parametrize(("namespace", "name"), [("crm", "crm__find"), ("mcp__crm__", "mcp__crm__find")])
def test_namespaces(namespace, name):
    """A namespace's functions get qualified names, in the tools, in the history and in tool_choice."""
    tool = NAMESPACE | {"name": namespace, "tools": [MEMBER, {"type": "custom", "name": "x"}]}
    chat = to_chat(
        body(
            message("user", "go"),
            call(name="find", namespace=namespace),
            output("ok"),
            tools=[tool, TOOL],
            tool_choice={"type": "function", "name": "find", "namespace": namespace},
        )
    )
    member = {"name": name, "description": "Customers.\n\nFinds.", "parameters": PARAMETERS}
    assert chat["tools"] == [{"type": "function", "function": member}, FUNCTION]
    assert chat["messages"][1]["tool_calls"] == [chat_call(name=name)]
    assert chat["tool_choice"] == {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "name": "get_weather"}, {"type": "function", "function": {"name": "get_weather"}}),
        ({"type": "web_search"}, None),
        ({"type": "custom", "name": "apply_patch"}, None),
        ({"type": "function", "name": "apply_patch"}, None),
    ],
)
def test_tool_choice(choice, expected):
    """tool_choice by mode or by function; a choice of a tool that was skipped is none."""
    assert to_chat(body(tools=[TOOL, *HOSTED], tool_choice=choice)).get("tool_choice") == expected


def test_allowed_tools():
    """allowed_tools leaves only the functions that it names."""
    allowed = {"type": "function", "name": "get_weather"}
    choice = {"type": "allowed_tools", "mode": "required", "tools": [allowed, {"type": "web_search"}]}
    chat = to_chat(body(tools=[TOOL, NAMESPACE], tool_choice=choice))
    assert (chat["tools"], chat["tool_choice"]) == ([FUNCTION], "required")


# ---- the rest


@pytest.mark.parametrize(
    ("given_fields", "expected"),
    [
        ({"max_output_tokens": 99}, {"max_tokens": 99}),
        (
            {"temperature": 0.1, "top_p": 0.9, "top_k": 4, "seed": 7},
            {"temperature": 0.1, "top_p": 0.9, "top_k": 4, "seed": 7},
        ),
        ({"presence_penalty": 0.5, "frequency_penalty": 1}, {"presence_penalty": 0.5, "frequency_penalty": 1}),
        ({"stop": ["END"]}, {"stop": ["END"]}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": False}, {}),
        ({"reasoning": {"effort": "minimal", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ({"reasoning": {"effort": "xhigh"}}, {"reasoning_effort": "high"}),
        ({"reasoning": {"effort": "medium"}}, {"reasoning_effort": "medium"}),
        ({"reasoning": {"effort": "none"}}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ({"reasoning": {"effort": None, "summary": "concise"}}, {}),
        ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {}),
        ({"text": {"verbosity": "low"}}, {}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        (
            {"text": {"format": SCHEMA}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
                }
            },
        ),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True, "top_logprobs": 0}),
        ({"top_logprobs": 0, "include": ["reasoning.encrypted_content"]}, {}),
        ({"store": False, "previous_response_id": None, "background": False}, {}),
        ({"metadata": {"a": "b"}, "prompt_cache_key": "k", "client_metadata": {}, "service_tier": "auto"}, {}),
        ({"truncation": "auto", "user": "u", "safety_identifier": "s", "some_future_field": 1}, {}),
        ({"temperature": None, "tools": None, "tool_choice": None, "instructions": None, "text": None}, {}),
        ({"tools": [TOOL], "parallel_tool_calls": False}, {"tools": [FUNCTION], "parallel_tool_calls": False}),
    ],
)
def test_fields(given_fields, expected):
    """Every other field is translated, or tolerated and not passed on."""
    plain = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": False}
    assert to_chat(body(**given_fields)) == plain | expected


@pytest.mark.parametrize(
    ("change", "place", "says"),
    [
        ({"conversation": "conv_1"}, "conversation", "send the whole history as 'input'"),
        ({"background": True}, "background", "stream"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "instructions"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0", "send the item itself"),
        ({"model": None}, "model", "required"),
        ({"input": 5}, "input", "a string or an array"),
        ({"input": ["hi"]}, "input.0", "an object"),
        ({"input": [{"content": "hi"}]}, "input.0.type", "required"),
        ({"input": [message("robot", "hi")]}, "input.0.role", "user"),
        ({"input": [message("user", None)]}, "input.0.content", "required"),
        ({"input": [message("user", [{"type": "input_text"}])]}, "input.0.content.0.text", "a string"),
        ({"input": [message("user", [{"type": "input_file", "file_id": "f"}])]}, "input.0.content.0", "input_file"),
        (
            {"input": [message("user", [{"type": "input_image", "file_id": "f"}])]},
            "input.0.content.0.file_id",
            "data URL",
        ),
        ({"input": [message("user", [{"type": "input_image"}])]}, "input.0.content.0.image_url", "required"),
        ({"input": [call(name="")]}, "input.0.name", "not empty"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input.0.call_id", "required"),
        ({"instructions": 3}, "instructions", "a string"),
        ({"tools": "x"}, "tools", "an array"),
        ({"tools": [{"name": "f"}]}, "tools.0.type", "required"),
        ({"tools": [{"type": "function"}]}, "tools.0.name", "required"),
        ({"tools": [NAMESPACE | {"tools": [{"type": "function"}]}]}, "tools.0.tools.0.name", "required"),
        ({"tools": [TOOL], "tool_choice": "some"}, "tool_choice", '"auto" or "none" or "required"'),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice.name", "get_weather"),
        ({"tool_choice": "required"}, "tool_choice", "'tools' is empty"),
        ({"tool_choice": 5}, "tool_choice", '"auto" or "none" or "required"'),
        ({"parallel_tool_calls": [{}]}, "parallel_tool_calls", "true or false"),  # it would be echoed
        ({"max_output_tokens": 0}, "max_output_tokens", "at least 1"),
        ({"temperature": "hot"}, "temperature", "a number"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "medium"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "json_schema"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", "an object"),
        ({"stream": 1}, "stream", "true or false"),
    ],
)
def test_what_is_wrong_is_named(change, place, says):
    """What cannot be understood or would need a store is a clear 400 that names the field."""
    with pytest.raises(CortexError) as caught:
        to_chat(body(**change))
    assert (caught.value.status, caught.value.param) == (400, place)
    assert caught.value.message.startswith(place + ": ")
    assert says in caught.value.message


def test_the_request_is_left_as_it_is():
    """Translation changes nothing in its input, and gives what can be sent as JSON."""
    request = body(message("user", "go"), call(), message("assistant", "x"), output("ok"), tools=[TOOL, NAMESPACE])
    kept = copy.deepcopy(request)
    assert json.loads(orjson.dumps(to_chat(request)))
    assert request == kept


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "content", "role", "name", "call_id", "output", "tools", "namespace"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(["input", "tools", "tool_choice", "text", "reasoning", "include", "store"]), JSON)
)
def test_nothing_but_a_clear_error(fuzzed):
    """Whatever JSON a client sends, it is translated or refused with a CortexError: never another exception."""
    try:
        to_chat(body() | fuzzed)
    except CortexError as error:
        assert error.status == 400  # noqa: PT017  both ends are fine

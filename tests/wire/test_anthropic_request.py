"""clients.md 5.1, request fields: what a Messages request says, as chat completions."""

import copy
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.errors import CortexError
from cortex.wire.anthropic import count_to_chat, to_chat
from cortex.wire.anthropic.ids import engine_id, tool_use_id

TOOL = {"name": "get_weather", "description": "Weather", "input_schema": {"type": "object", "properties": {}}}
FUNCTION = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather", "parameters": {"type": "object", "properties": {}}},
}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
PNG_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
BILLING = {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cch=a1b2c;"}


def body(*messages, **more):
    turns = list(messages) or [user("hi")]
    return {"model": "claude-x", "max_tokens": 100, "messages": turns} | more


def user(*blocks):
    return {"role": "user", "content": blocks[0] if len(blocks) == 1 and isinstance(blocks[0], str) else list(blocks)}


def assistant(*blocks):
    return user(*blocks) | {"role": "assistant"}


def text(said, **more):
    return {"type": "text", "text": said, **more}


def result(content=None, tool_id="toolu_1", **more):
    block = {"type": "tool_result", "tool_use_id": tool_id, **more}
    return block if content is None else block | {"content": content}


def messages_of(*messages, **more):
    return to_chat(body(*messages, **more))["messages"]


# ---- the prompt


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("Be brief.", "Be brief."),
        ([text("Be brief."), text("Be kind.", cache_control={"type": "ephemeral"})], "Be brief.\n\nBe kind."),
        ([BILLING, text("Be brief.")], "Be brief."),
        ([text(BILLING["text"] + "\nBe brief.")], "Be brief."),
        (BILLING["text"] + "\nBe brief.", "Be brief."),
        ([text("Be brief."), BILLING], "Be brief.\n\n" + BILLING["text"]),
        ("Say x-anthropic-billing-header: to me.", "Say x-anthropic-billing-header: to me."),
    ],
)
def test_system(system, expected):
    """`system` is a string or text blocks; the billing header at its beginning is dropped, and nothing else is."""
    assert messages_of(system=system)[0] == {"role": "system", "content": expected}


@pytest.mark.parametrize("system", [None, "", [], [BILLING], BILLING["text"]])
def test_no_system(system):
    """A request without a system text, or with the billing header alone, has no system message."""
    assert messages_of(system=system) == [{"role": "user", "content": "hi"}]


def test_a_system_message_in_the_middle_stays_where_it_is():
    """A mid-conversation system message becomes a tagged block of the user's turn in its place: the prompt's beginning stays."""
    before = messages_of(user("a"), assistant("b"), user("c"), system="S")
    after = messages_of(
        user("a"), assistant("b"), user("c"), {"role": "system", "content": [text("agents: x")]}, user("d"), system="S"
    )
    assert after[:3] == before[:3]
    assert after[3] == {"role": "user", "content": "c\n<system-reminder>\nagents: x\n</system-reminder>\nd"}


def test_leading_system_messages_join_the_system_text():
    """A system message before the first turn is part of the system text."""
    got = messages_of({"role": "system", "content": "B"}, user("hi"), system="A")
    assert got == [{"role": "system", "content": "A\n\nB"}, {"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("hi", "hi"),
        ([text("hi")], "hi"),
        ([text("a"), text("b", cache_control={"type": "ephemeral"})], "a\nb"),
        ([text("see"), PNG], [{"type": "text", "text": "see"}, PNG_PART]),
        (
            [{"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}],
            [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
        ),
        ([{"type": "container_upload", "file_id": "f"}, text("hi")], "hi"),
        ([{"type": "hologram"}, text("hi")], "hi"),
        (
            [{"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "D"}}],
            "T\nD",
        ),
        ([{"type": "document", "source": {"type": "content", "content": [text("D"), text("E")]}}], "D\nE"),
        ([{"type": "search_result", "title": "T", "source": "S", "content": [text("C")]}], "T\nS\nC"),
    ],
)
def test_user_content(content, expected):
    """User content is a string or blocks: text, images (base64, URL), documents with text; unknown types are skipped."""
    assert messages_of({"role": "user", "content": content}) == [{"role": "user", "content": expected}]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (result("18 C"), "18 C"),
        (result([text("18"), text("C")]), "18\nC"),
        (result(), ""),
        (result([]), ""),
        (result([text("seen"), PNG]), [{"type": "text", "text": "seen"}, PNG_PART]),
        (result("no such city", is_error=True), "Error: no such city"),
        (result([PNG], is_error=True), [{"type": "text", "text": "Error"}, PNG_PART]),
        (result("18 C", is_error=False), "18 C"),
        (result([{"type": "tool_reference", "tool_name": "grep"}]), "grep"),
        (result([{"type": "hologram"}]), ""),
    ],
)
def test_tool_results(block, expected):
    """A tool result is a string or blocks, perhaps with images or an error flag, and becomes a tool message."""
    got = messages_of(
        user("hi"), assistant({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}), user(block)
    )
    assert got[2:] == [{"role": "tool", "tool_call_id": "1", "content": expected}]


def test_tool_results_come_before_the_rest_of_the_turn():
    """In one user message tool results go before the remaining text, in their own order."""
    calls = [{"type": "tool_use", "id": f"toolu_{n}", "name": "f", "input": {"n": n}} for n in (1, 2)]
    got = messages_of(user("go"), assistant(*calls), user(text("a"), result("r1"), text("b"), result("r2", "toolu_2")))
    assert [(m["role"], m["content"]) for m in got[2:]] == [("tool", "r1"), ("tool", "r2"), ("user", "a\nb")]
    assert [m["tool_call_id"] for m in got[2:4]] == [call["id"] for call in got[1]["tool_calls"]] == ["1", "2"]


def test_assistant_turns():
    """Thinking goes back as reasoning, tool_use as tool calls; signatures, redacted thinking and server tools' blocks are skipped."""
    got = messages_of(
        user("go"),
        assistant(
            {"type": "thinking", "thinking": "Hm.", "signature": "abc"},
            {"type": "redacted_thinking", "data": "xyz"},
            text("Let me see."),
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
            {
                "type": "tool_use",
                "id": "toolu_1",
                "name": "f",
                "input": {"b": 1, "a": "é"},
                "caller": {"type": "direct"},
            },
        ),
        user(result("ok")),
    )
    function = {"name": "f", "arguments": '{"b":1,"a":"é"}'}
    assert got[1] == {
        "role": "assistant",
        "content": "Let me see.",
        "reasoning_content": "Hm.",
        "tool_calls": [{"id": "1", "type": "function", "function": function}],
    }


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        (["hi"], {"content": "hi"}),
        ([{"type": "thinking", "thinking": "Hm", "signature": ""}], {"content": "", "reasoning_content": "Hm"}),
        ([text("a"), text("b")], {"content": "a\nb"}),
    ],
)
def test_assistant_content(blocks, expected):
    """An assistant turn may be a string, several texts, or nothing but thinking."""
    assert messages_of(user("q"), assistant(*blocks), user("r"))[1] == {"role": "assistant", **expected}


def test_an_assistant_turn_without_anything_is_none():
    """What is left empty when unknown blocks were skipped makes no message."""
    got = messages_of(user("a"), assistant({"type": "redacted_thinking", "data": "x"}), user("b"), user())
    assert got == [{"role": "user", "content": "a\nb"}]


def test_turns_of_one_role_in_a_row_are_one_turn():
    """Consecutive turns of one role are combined, as Anthropic's reference says: chat templates want them to alternate."""
    got = messages_of(user("a"), user(text("b")), assistant("c"), assistant(text("d")))
    assert got == [{"role": "user", "content": "a\nb"}, {"role": "assistant", "content": "c\nd"}]


# ---- tools


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ([TOOL], [FUNCTION]),
        ([TOOL | {"type": "custom"}], [FUNCTION]),
        (
            [TOOL | {"strict": True, "defer_loading": True, "eager_input_streaming": True, "cache_control": {}}],
            [FUNCTION],
        ),
        ([SEARCH, TOOL, {"type": "bash_20250124", "name": "bash"}, {"type": "computer_toolset_20260801"}], [FUNCTION]),
        ([SEARCH], None),
        ([], None),
    ],
)
def test_tools(tools, expected):
    """Tools with a schema are functions, their hints are ignored, server tools are dropped and never a 400."""
    assert to_chat(body(tools=tools)).get("tools") == expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, {}),
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "get_weather"},
            {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
        ),
        ({"type": "auto", "disable_parallel_tool_use": True}, {"tool_choice": "auto", "parallel_tool_calls": False}),
        ({"type": "any", "disable_parallel_tool_use": False}, {"tool_choice": "required", "parallel_tool_calls": True}),
        ({"type": "tool", "name": "web_search"}, {}),
    ],
)
def test_tool_choice(choice, expected):
    """tool_choice auto, any, tool and none with disable_parallel_tool_use; a choice of a dropped server tool is dropped."""
    chat = to_chat(body(tools=[TOOL, SEARCH], tool_choice=choice))
    assert {key: chat[key] for key in ("tool_choice", "parallel_tool_calls") if key in chat} == expected


def test_a_forced_server_tool_alone_is_dropped():
    """Claude Code's search forces a tool that only Anthropic has: the request is served without it."""
    chat = to_chat(body(tools=[SEARCH], tool_choice={"type": "tool", "name": "web_search"}))
    assert not {"tools", "tool_choice"} & set(chat)


@given(st.text(min_size=1))
def test_tool_ids_are_reversible(made):
    """A tool id is mapped to a `toolu_` id that clients accept and back, without a table."""
    mapped = tool_use_id(made)
    assert mapped.startswith("toolu_")
    assert set(mapped) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    assert engine_id(mapped) == made


@pytest.mark.parametrize("foreign", ["call_1", "toolu_x_zz", "x"])
def test_foreign_tool_ids_stay_matched(foreign):
    """A call and its result that another server named still belong together."""
    call = {"type": "tool_use", "id": foreign, "name": "f", "input": {}}
    got = messages_of(user("go"), assistant(call), user(result("r", foreign)))
    assert got[1]["tool_calls"][0]["id"] == got[2]["tool_call_id"]


# ---- the rest


@pytest.mark.parametrize(
    ("given_fields", "expected"),
    [
        ({"max_tokens": 32000}, {"max_tokens": 32000}),
        ({"temperature": 0.5, "top_p": 0.9, "top_k": 40}, {"temperature": 0.5, "top_p": 0.9, "top_k": 40}),
        (
            {"stop_sequences": ["END", "\n\nHuman:"]},
            {"stop": ["END", "\n\nHuman:"], "verbose": True, "response_fields": ["stopping_word"]},
        ),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": False}, {"stream": False}),
        ({"thinking": {"type": "disabled"}}, {"chat_template_kwargs": {"enable_thinking": False}}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            {"chat_template_kwargs": {"enable_thinking": True}, "thinking_budget_tokens": 2048},
        ),
        ({"thinking": {"type": "adaptive"}}, {"chat_template_kwargs": {"enable_thinking": True}}),
        (
            {"thinking": {"type": "adaptive", "budget_tokens": 0, "display": "omitted"}},
            {"chat_template_kwargs": {"enable_thinking": True}},
        ),
        ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"output_config": {"effort": "xhigh"}}, {"reasoning_effort": "high"}),
        (
            {"output_config": {"effort": "max", "format": {"type": "json_schema", "schema": {"type": "object"}}}},
            {
                "reasoning_effort": "high",
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "output", "schema": {"type": "object"}, "strict": True},
                },
            },
        ),
        (
            {"output_format": {"type": "json_schema", "schema": {"type": "object"}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "output", "schema": {"type": "object"}, "strict": True},
                }
            },
        ),
        ({"metadata": {"user_id": "u"}, "context_management": {"edits": []}, "speed": "fast", "betas": ["x"]}, {}),
        ({"cache_control": {"type": "ephemeral"}, "service_tier": "auto", "some_future_field": [1]}, {}),
        ({"temperature": None, "system": None, "tools": None, "thinking": None, "stop_sequences": None}, {}),
    ],
)
def test_fields(given_fields, expected):
    """Every other field of a request is translated, or tolerated and not passed on."""
    plain = {"model": "claude-x", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}], "stream": False}
    assert to_chat(body(**given_fields)) == plain | expected


def test_count_tokens():
    """count_tokens needs no max_tokens and counts what the same request would make the model read."""
    request = body(system="S", tools=[TOOL], thinking={"type": "disabled"}, output_config={"effort": "low"})
    chat = to_chat(request)
    del request["max_tokens"]
    assert count_to_chat(request) == {key: chat[key] for key in chat if key not in ("max_tokens", "stream")}


def test_the_request_is_left_as_it_is():
    """Translation changes nothing in its input, and gives what can be sent as JSON."""
    request = body(user(text("a"), PNG), assistant("b"), user("c"), system=[BILLING, text("S")], tools=[TOOL])
    kept = copy.deepcopy(request)
    assert json.loads(orjson.dumps(to_chat(request)))
    assert request == kept


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages.0"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [user("a"), user({"text": "x"})]}, "messages.1.content.0.type"),
        ({"messages": [user({"type": "text"})]}, "messages.0.content.0.text"),
        ({"messages": [user({"type": "image"})]}, "messages.0.content.0.source"),
        (
            {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
            "messages.0.content.0.source.type",
        ),
        (
            {"messages": [user({"type": "document", "source": {"type": "base64", "data": "JVBE"}})]},
            "messages.0.content.0.source",
        ),
        ({"messages": [user({"type": "tool_result", "content": "x"})]}, "messages.0.content.0.tool_use_id"),
        (
            {"messages": [user("a"), assistant({"type": "tool_use", "id": "t", "name": "f", "input": "{}"})]},
            "messages.1.content.0.input",
        ),
        ({"system": 7}, "system"),
        ({"system": [PNG]}, "system.0.type"),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema"),
        ({"tools": [TOOL, {"input_schema": {}}]}, "tools.1.name"),
        ({"tools": "f"}, "tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name"),
        ({"tools": [TOOL], "tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"stop_sequences": [""]}, "stop_sequences.0"),
        ({"stream": "yes"}, "stream"),
        ({"thinking": {"type": "deep"}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": "all"}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ],
)
def test_what_is_wrong_is_named(change, place):
    """A request that cannot be understood is a 400 that names the field and what would be right."""
    with pytest.raises(CortexError) as caught:
        to_chat(body(**change))
    assert (caught.value.status, caught.value.type, caught.value.param) == (400, "invalid_request_error", place)
    assert caught.value.message.startswith(place + ": ")


@pytest.mark.parametrize("wrong", [[], "x", None, 3])
def test_a_body_that_is_no_object(wrong):
    """A body that is no JSON object is a 400 as well."""
    with pytest.raises(CortexError, match=r"the request body: .*an object"):
        to_chat(wrong)


def nested(depth):
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [200, *range(235, 265), 900])
@pytest.mark.parametrize("field", ["metadata", "tools"])
def test_deep_nesting(depth, field):
    """A request that could be read but not be passed on is refused, wherever it is nested."""
    value = nested(depth)
    change = {"metadata": value} if field == "metadata" else {"tools": [TOOL | {"input_schema": {"x": value}}]}
    try:
        chat = to_chat(body(**change))
    except CortexError as error:
        assert depth > 240
        assert "nested too deeply" in error.message  # noqa: PT017
    else:
        assert orjson.dumps(chat)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "content", "role", "name", "id", "input", "source", "tool_use_id"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*body(), "system", "tools", "tool_choice", "thinking", "output_config"]), JSON))
def test_nothing_but_a_clear_error(fuzzed):
    """Whatever JSON a client sends, it is translated or refused with a CortexError: never another exception."""
    try:
        to_chat(body() | fuzzed)
    except CortexError as error:
        assert error.status == 400  # noqa: PT017  both ends are fine

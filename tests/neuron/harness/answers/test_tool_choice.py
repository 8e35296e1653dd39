"""A tool that must be called is called, by any model and template, and only what it may be called with."""

import asyncio
import json

import orjson
import pytest
from helpers.engines import ask, engine_spec, running_engine, says
from helpers.translated import chunks, deltas, translated
from hypothesis import given
from hypothesis import strategies as st

from cortex.neuron.harness.answers.tool_choice import CallSplitter, calls_schema

CHAT = "/v1/chat/completions"
PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"],
    "additionalProperties": False,
}
NESTED = {
    "type": "object",
    "properties": {"where": {"$ref": "#/$defs/Place"}, "unit": {"enum": ["C", "F"]}},
    "required": ["where", "unit"],
    "additionalProperties": False,
    "$defs": {"Place": PLACE},
}


def tool(name, parameters=None):
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


def named(name):
    return {"type": "function", "function": {"name": name}}


TOOLS = [tool("get_weather", PLACE), tool("forecast", NESTED), tool("ping")]
THINKS_FIRST = (
    "{% for m in messages %}{% if m.role == 'assistant' and m.reasoning_content %}{{'<|im_start|>assistant\n<think>\n'+m.reasoning_content+'\n</think>\n\n'+(m.content or '')+'<|im_end|>\n'}}"
    "{% else %}{{'<|im_start|>'+m.role+'\n'+(m.content or '')+'<|im_end|>\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


def fits(name, arguments):
    """Whether a call's arguments are what its tool takes."""
    if name == "ping":
        return arguments == {}
    place = arguments if name == "get_weather" else arguments["where"]
    sound = set(place) == {"city"} and isinstance(place["city"], str) and len(place["city"]) <= 12
    return (
        sound if name == "get_weather" else sound and set(arguments) == {"where", "unit"} and arguments["unit"] in "CF"
    )


def calls_of(answer):
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == ""
    return [
        (call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in choice["message"]["tool_calls"]
    ]


def streamed_calls(stream):
    """The calls of a stream: each has an id, a type and a name once, in its first delta."""
    calls: dict[int, list[str]] = {}
    for delta in deltas(stream):
        for call in delta.get("tool_calls", ()):
            if call["index"] not in calls:
                assert call["id"].startswith("call_")
                assert call["type"] == "function"
                calls[call["index"]] = [call["function"]["name"], ""]
            else:
                assert "name" not in call["function"]
            calls[call["index"]][1] += call["function"]["arguments"]
    return [(name, json.loads(arguments)) for name, arguments in calls.values()]


CHOICES = ["required", named("forecast")]


def _spec(which, scripted_model, demo_model, folder):
    if which == "scripted":
        return engine_spec(scripted_model, folder)
    return engine_spec(demo_model, folder, chat_template=None if which == "demo" else "chatml")


@pytest.mark.model
@pytest.mark.parametrize("which", ["scripted", "demo", "demo without tools in its template"])
def test_the_tool_is_called(which, scripted_model, demo_model, tmp_path):
    """Required or named, streamed or not, whatever the model would rather say: one call whose arguments fit, and no text."""

    async def scenario():
        spec = _spec(which, scripted_model, demo_model, tmp_path)
        async with running_engine(spec) as engine:
            for choice in CHOICES:
                names = (
                    [choice["function"]["name"]]
                    if isinstance(choice, dict)
                    else [each["function"]["name"] for each in TOOLS]
                )
                body = says(
                    "Tell me a long story.",
                    tools=TOOLS,
                    tool_choice=choice,
                    parallel_tool_calls=False,
                    max_tokens=200,
                    seed=1,
                )
                whole = calls_of(orjson.loads(await translated(engine, CHAT, body, spec)))
                stream = await translated(engine, CHAT, body | {"stream": True}, spec)
                for calls in (whole, streamed_calls(stream)):
                    ((name, arguments),) = calls
                    assert name in names
                    assert fits(name, arguments), calls
                assert not any(delta.get("content") for delta in deltas(stream))
                assert [c["finish_reason"] for chunk in chunks(stream) for c in chunk["choices"]][-1] == "tool_calls"

    asyncio.run(scenario())


@pytest.mark.model
def test_several_calls_where_the_client_allows_them(demo_model, tmp_path):
    """`parallel_tool_calls: true` makes a list of one call or more."""

    async def scenario():
        spec = engine_spec(demo_model, tmp_path)
        async with running_engine(spec) as engine:
            body = says(
                "Weather of Paris, Rome and Oslo?",
                tools=TOOLS[:1],
                tool_choice="required",
                parallel_tool_calls=True,
                max_tokens=200,
                temperature=0,
            )
            calls = calls_of(orjson.loads(await translated(engine, CHAT, body, spec)))
            assert calls
            assert streamed_calls(await translated(engine, CHAT, body | {"stream": True}, spec)) == calls
            assert all(fits(*call) for call in calls)

    asyncio.run(scenario())


@pytest.mark.model
def test_a_model_that_thinks_first_still_does(demo_model, tmp_path):
    """A template that opens a thought is not answered with JSON inside it: what is thought is reasoning, and no call."""

    async def scenario():
        spec = engine_spec(demo_model, tmp_path, chat_template=THINKS_FIRST)
        async with running_engine(spec) as engine:
            body = says(
                "Weather?", tools=TOOLS, tool_choice="required", reasoning_format="none", max_tokens=8, temperature=0
            )
            (choice,) = orjson.loads(await translated(engine, CHAT, body, spec))["choices"]
            assert choice["message"]["reasoning_content"]
            assert choice["finish_reason"] == "length"
            assert "tool_calls" not in choice["message"]

    asyncio.run(scenario())


@pytest.mark.model
def test_the_prompt_is_the_one_that_the_engine_makes_of_tools(scripted_model, tmp_path):
    """To the token: forcing a call changes nothing of what the model reads."""

    async def scenario():
        spec = engine_spec(scripted_model, tmp_path)
        async with running_engine(spec) as engine:
            body = says("Weather?", tools=TOOLS)
            _, free = await ask(engine, CHAT, body)
            forced = orjson.loads(await translated(engine, CHAT, body | {"tool_choice": "required"}, spec))
            assert forced["usage"]["prompt_tokens"] == free["usage"]["prompt_tokens"]
            cached = forced["usage"]["prompt_tokens_details"]["cached_tokens"]
            assert cached == free["usage"]["prompt_tokens"] - 1

    asyncio.run(scenario())


@pytest.mark.model
def test_none_means_that_the_model_knows_of_no_tools(scripted_model, tmp_path):
    """`tool_choice: "none"` is a request without tools, also in its prompt."""

    async def scenario():
        spec = engine_spec(scripted_model, tmp_path)
        async with running_engine(spec) as engine:
            body = says("Weather?", tools=TOOLS, tool_choice="none", parallel_tool_calls=True)
            answer = orjson.loads(await translated(engine, CHAT, body, spec))
            assert answer["choices"][0]["message"]["content"] == "Hello from the scripted model."
            assert answer["usage"]["prompt_tokens"] < 30

    asyncio.run(scenario())


@pytest.mark.model
def test_a_forced_call_is_bounded(scripted_model, tmp_path):
    """Arguments that would never end do end, without any bound in the request, as `length`."""
    endless = {
        "type": "object",
        "properties": {"digits": {"type": "array", "items": {"const": 0}, "minItems": 400}},
        "required": ["digits"],
    }

    async def scenario():
        spec = engine_spec(scripted_model, tmp_path, max_output_tokens=60)
        async with running_engine(spec) as engine:
            body = {"messages": says("x")["messages"], "tools": [tool("count", endless)], "tool_choice": "required"}
            answer = orjson.loads(await translated(engine, CHAT, body, spec))
            assert answer["choices"][0]["finish_reason"] == "length"
            assert answer["usage"]["completion_tokens"] == 60

    asyncio.run(scenario())


# ---- without an engine


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CALLS = st.lists(st.tuples(st.text(min_size=1), st.dictionaries(st.text(), JSON, max_size=3)), min_size=1, max_size=3)


@given(CALLS, st.integers(1, 9), st.sampled_from([None, 1]), st.booleans())
def test_calls_come_out_as_they_were_written(calls, size, indent, as_list):
    """Any names and arguments, any spacing, cut anywhere: the deltas are those calls."""
    written = [{"name": name, "arguments": arguments} for name, arguments in (calls if as_list else calls[:1])]
    text = json.dumps(written if as_list else written[0], indent=indent)
    splitter, names, arguments = CallSplitter(), [], []
    for at in range(0, len(text), size):
        for delta in splitter.push(text[at : at + size]):
            if "id" in delta:
                names.append(delta["function"]["name"])
                arguments.append("")
            assert delta["index"] == len(names) - 1
            arguments[-1] += delta["function"]["arguments"]
    assert splitter.complete
    assert [{"name": n, "arguments": json.loads(a)} for n, a in zip(names, arguments, strict=True)] == written


def test_references_keep_pointing_at_their_own_tool():
    """Each tool's `#/$defs/…`, and `#` itself, are found where its parameters now are."""
    tree = {"type": "object", "properties": {"child": {"$ref": "#"}, "$ref": {"type": "string"}}}
    definitions = calls_schema([tool("a", NESTED), tool("b", tree)], several=False)["$defs"]
    assert definitions["p0"]["properties"]["where"] == {"$ref": "#/$defs/p0/$defs/Place"}
    assert definitions["p1"]["properties"] == {"child": {"$ref": "#/$defs/p1"}, "$ref": {"type": "string"}}

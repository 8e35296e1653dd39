"""Translated requests and answers with the real engine; llama.cpp's own /v1/messages and /v1/responses are the oracle."""

import asyncio

import orjson
import pytest
from helpers.engine_recording import THINKING_TEMPLATE
from helpers.engines import ask, engine_spec, running_engine

from cortex.wire import anthropic, responses

pytestmark = pytest.mark.model
TOOL = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "18 C"}]}


def messages(*turns, **more):
    roles = ("user", "assistant")
    said = [{"role": roles[n % 2], "content": turn} for n, turn in enumerate(turns)]
    return {"model": "scripted", "max_tokens": 40, "messages": said} | more


REQUESTS = {
    "plain": messages("hi"),
    "system": messages("hi", system="Be brief."),
    "blocks": messages([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
    "emoji": messages("[[emoji]]"),
    "thinking": messages("[[think]]"),
    "length": messages("[[loop]]", max_tokens=7),
    "tool": messages("weather?", tools=[TOOL]),
    "tool result": messages("weather?", [CALL], [RESULT], tools=[TOOL]),
    "thinking in the history": messages("q", [{"type": "thinking", "thinking": "Hm", "signature": ""}, CALL], [RESULT]),
    "prefill": messages("hi", "Hello"),
    "stop": messages("[[stop]]", stop_sequences=["STOP"]),
}
# Where we differ from llama.cpp on purpose: it reports a stop string as end_turn.
DIFFERENT = {"stop": {"stop_reason": "stop_sequence"}}


def same(message):
    """What two answers to one request have in common: no ids, and one count for the prompt, cached or not."""
    usage = message["usage"]
    content = [{key: value for key, value in block.items() if key != "id"} for block in message["content"]]
    prompt = usage["input_tokens"] + usage["cache_read_input_tokens"]
    kept = {key: message[key] for key in ("type", "role", "model", "stop_reason", "stop_sequence")}
    return kept | {"content": content, "prompt": prompt, "output": usage["output_tokens"]}


def with_engine(scripted_model, tmp_path, scenario):
    async def run():
        spec = engine_spec(scripted_model, tmp_path, alias="scripted", context=8192, chat_template=THINKING_TEMPLATE)
        async with running_engine(spec) as engine:
            await scenario(engine)

    asyncio.run(run())


async def answered(engine, chat):
    status, answer = await ask(engine, "/v1/chat/completions", chat)
    assert status == 200, answer
    return answer


def test_messages_as_the_engine_itself_understands_them(scripted_model, tmp_path):
    """The same Messages request gives the same text, stop reason and tokens through our translation and llama.cpp's own."""

    async def scenario(engine):
        for name, request in REQUESTS.items():
            ours = anthropic.from_chat(await answered(engine, anthropic.to_chat(request)), request=request)
            _, theirs = await ask(engine, "/v1/messages", request)
            assert same(ours) == same(theirs) | DIFFERENT.get(name, {}), name

    with_engine(scripted_model, tmp_path, scenario)


def test_a_tool_round_trip(scripted_model, tmp_path):
    """A client that sends back what it got, with the tool's result, is understood: in both dialects."""

    async def scenario(engine):
        request = messages("weather?", tools=[TOOL])
        said = anthropic.from_chat(await answered(engine, anthropic.to_chat(request)), request=request)
        (block,) = said["content"]
        assert (said["stop_reason"], block["input"]) == ("tool_use", {"city": "Paris"})
        result = {"type": "tool_result", "tool_use_id": block["id"], "content": "18 C"}
        request = messages("weather?", said["content"], [result], tools=[TOOL])
        said = anthropic.from_chat(await answered(engine, anthropic.to_chat(request)), request=request)
        assert said["content"] == [{"type": "text", "text": "The tool answered, and the task is done."}]

        flat = {"type": "function", "name": "get_weather", "parameters": TOOL["input_schema"]}
        question = {"role": "user", "content": "weather?"}
        asked = {"model": "scripted", "input": [question], "max_output_tokens": 40, "tools": [flat]}
        said = responses.from_chat(await answered(engine, responses.to_chat(asked)), request=asked)
        (item,) = said["output"]
        assert (item["name"], orjson.loads(item["arguments"])) == ("get_weather", {"city": "Paris"})
        output = {"type": "function_call_output", "call_id": item["call_id"], "output": "18 C"}
        asked["input"] = [question, item, output]
        said = responses.from_chat(await answered(engine, responses.to_chat(asked)), request=asked)
        assert said["output"][0]["content"][0]["text"] == "The tool answered, and the task is done."

    with_engine(scripted_model, tmp_path, scenario)


def test_a_system_message_in_the_middle_keeps_the_cache(scripted_model, tmp_path):
    """A conversation that grows by a system message and a turn is read from the engine's cache up to there."""

    async def scenario(engine):
        long = [{"role": "user", "content": "word " * 300}]
        request = {"model": "scripted", "max_tokens": 5, "system": "Be brief.", "messages": long}
        first = anthropic.from_chat(await answered(engine, anthropic.to_chat(request)), request=request)
        said = {"role": "assistant", "content": first["content"]}
        request["messages"] = [*long, said, {"role": "system", "content": "agents"}, {"role": "user", "content": "go"}]
        second = anthropic.from_chat(await answered(engine, anthropic.to_chat(request)), request=request)
        assert second["usage"]["cache_read_input_tokens"] > 300
        assert second["usage"]["input_tokens"] < 100

    with_engine(scripted_model, tmp_path, scenario)

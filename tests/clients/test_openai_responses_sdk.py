"""The official `openai` SDK's Responses API, validating every answer, against gateway + neuron + a real engine."""

import asyncio
import json

import openai
import pytest
from helpers.engine_recording import THINKING_TEMPLATE
from helpers.live import SCRIPTED, SCRIPTED_MODEL, running_fleet
from helpers.scripted_gguf import script_text

pytestmark = pytest.mark.model
TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": None,
}


@pytest.fixture(name="run")
def _run(models_dir, tmp_path):
    def run(scenario, *, store=False):
        async def session():
            models = [SCRIPTED_MODEL | {"chat_template": THINKING_TEMPLATE}]
            kept = {"store": store, "database": str(tmp_path / "responses.sqlite")}
            async with (
                running_fleet(models_dir, default_models=models, responses=kept) as fleet,
                openai.AsyncOpenAI(
                    base_url=f"{fleet.url}/v1",
                    api_key="any",
                    max_retries=0,
                    timeout=60,
                    _strict_response_validation=True,
                ) as client,
            ):
                return await scenario(client)

        return asyncio.run(session())

    return run


def test_a_response_and_its_stream_say_the_same(run):
    """Text and usage are equal; the stream's deltas add up to the text, and its last event has everything."""

    async def scenario(client):
        asked = {"model": SCRIPTED, "input": "hi", "instructions": "Be brief.", "max_output_tokens": 64}
        whole = await client.responses.create(**asked)
        assert (whole.output_text, whole.status) == (script_text("hello"), "completed")
        async with client.responses.stream(**asked) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
        assert (
            "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
        )
        assert final.output_text == whole.output_text
        assert final.usage.output_tokens == whole.usage.output_tokens == 7
        assert final.usage.input_tokens == whole.usage.input_tokens

    run(scenario)


def test_a_tool_round_trip(run):
    """The call comes as an item, streamed and not; with its output the model ends."""

    async def scenario(client):
        question = {"role": "user", "content": "Weather?"}
        asked = {"model": SCRIPTED, "input": [question], "tools": [TOOL], "max_output_tokens": 64}
        whole = await client.responses.create(**asked)
        async with client.responses.stream(**asked) as stream:
            streamed = await stream.get_final_response()
        for response in (whole, streamed):
            (call,) = response.output
            assert (call.type, call.name, json.loads(call.arguments)) == (
                "function_call",
                "get_weather",
                {"city": "Paris"},
            )
            output = {"type": "function_call_output", "call_id": call.call_id, "output": "18 C"}
            said = call.model_dump(exclude_none=True, exclude={"parsed_arguments"})
            ended = await client.responses.create(**asked | {"input": [question, said, output]})
            assert ended.output_text == script_text("after")

    run(scenario)


def test_reasoning_is_an_item_of_its_own(run):
    """What the model thought comes before what it said."""

    async def scenario(client):
        asked = {"model": SCRIPTED, "input": "[[think]]", "reasoning": {"summary": "auto"}, "max_output_tokens": 64}
        whole = await client.responses.create(**asked)
        assert [item.type for item in whole.output] == ["reasoning", "message"]
        assert whole.output_text == "Pondered result."
        async with client.responses.stream(**asked) as stream:
            streamed = await stream.get_final_response()
        assert [item.type for item in streamed.output] == ["reasoning", "message"]

    run(scenario)


def test_a_schema_holds_and_a_bound_is_told(run):
    """`text.format` is kept to, and an answer that was cut is incomplete."""

    async def scenario(client):
        schema = {
            "type": "object",
            "properties": {"answer": {"type": "integer"}},
            "required": ["answer"],
            "additionalProperties": False,
        }
        form = {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}
        held = await client.responses.create(
            model=SCRIPTED, input="[[json]]", text={"format": form}, max_output_tokens=64
        )
        assert json.loads(held.output_text) == {"answer": 42}
        cut = await client.responses.create(model=SCRIPTED, input="[[loop]]", max_output_tokens=5)
        assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")

    run(scenario)


def test_a_conversation_by_previous_response_id(run):
    """Two turns, streamed and not: the second has the first one's prompt and answer in its own, without sending them."""

    async def scenario(client):
        asked = {"model": SCRIPTED, "max_output_tokens": 64}
        first = await client.responses.create(**asked, input="hi")
        history = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": first.output_text}]
        whole = await client.responses.create(**asked, input=[*history, {"role": "user", "content": "and?"}])
        second = await client.responses.create(**asked, input="and?", previous_response_id=first.id)
        async with client.responses.stream(**asked, input="and?", previous_response_id=first.id) as stream:
            streamed = await stream.get_final_response()
        for response in (second, streamed):
            assert response.previous_response_id == first.id
            assert response.usage.input_tokens == whole.usage.input_tokens > first.usage.input_tokens
            assert (await client.responses.retrieve(response.id)).output_text == whole.output_text
            items = [item async for item in client.responses.input_items.list(response.id, limit=2)]
            assert [item.role for item in items] == ["user", "assistant", "user"]
            await client.responses.delete(response.id)
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve(response.id)
        with pytest.raises(openai.BadRequestError) as gone:
            await client.responses.create(**asked, input="and?", previous_response_id=second.id)
        assert gone.value.code == "previous_response_not_found"

    run(scenario, store=True)


def test_a_tool_round_trip_by_previous_response_id(run):
    """The output of a call is all that the second request has to send."""

    async def scenario(client):
        asked = {"model": SCRIPTED, "tools": [TOOL], "max_output_tokens": 64}
        first = await client.responses.create(**asked, input="Weather?")
        (call,) = first.output
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "18 C"}
        ended = await client.responses.create(**asked, input=[output], previous_response_id=first.id)
        assert ended.output_text == script_text("after")

    run(scenario, store=True)


def test_errors_have_their_classes(run):
    """Unknown models, overflows and what would need a memory arrive as the SDK's classes, streamed and not."""

    async def scenario(client):
        for stream in (False, True):
            with pytest.raises(openai.NotFoundError) as unknown:
                await client.responses.create(model="nobody/knows", input="hi", stream=stream)
            assert unknown.value.code == "model_not_found"
            with pytest.raises(openai.BadRequestError) as long:
                await client.responses.create(model=SCRIPTED, input="word " * 20_000, stream=stream)
            assert long.value.code == "context_length_exceeded"
            with pytest.raises(openai.BadRequestError) as chained:
                await client.responses.create(model=SCRIPTED, input="hi", previous_response_id="resp_1", stream=stream)
            assert chained.value.param == "previous_response_id"

    run(scenario)

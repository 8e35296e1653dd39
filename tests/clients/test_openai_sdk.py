"""The official `openai` SDK, unmodified, against gateway + neuron + real engines."""

import contextlib
import json

import openai
import pytest
from helpers.live import DEMO, DEMO_MODEL, SCRIPTED, SCRIPTED_MODEL, running_fleet
from helpers.shared import shared

pytestmark = pytest.mark.model
EMBED = "embed"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@contextlib.asynccontextmanager
async def _sdk(models_dir, folder):
    for file in models_dir.iterdir():
        (folder / file.name).symlink_to(file.resolve())
    (folder / f"{EMBED}.gguf").symlink_to((models_dir / f"{SCRIPTED}.gguf").resolve())
    embedding = {"model_id": EMBED, "threads": 1, "context": 2048, "mode": "embedding"}
    async with (
        running_fleet(folder, default_models=[SCRIPTED_MODEL, embedding, DEMO_MODEL]) as fleet,
        openai.AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="any", max_retries=0, timeout=60) as client,
    ):
        yield client


def _user(text):
    return [{"role": "user", "content": text}]


@pytest.fixture(name="run", scope="module")
def _run(models_dir, tmp_path_factory):
    with shared(_sdk(models_dir, tmp_path_factory.mktemp("models"))) as run:
        yield run


def test_chat_and_stream_say_the_same(run):
    """One answer whole, and the same in pieces, each token as an event of its own, with a usage chunk exactly when asked."""

    async def scenario(client):
        whole = await client.chat.completions.create(model=SCRIPTED, messages=_user("hi"), max_tokens=32)
        assert whole.choices[0].message.content == "Hello from the scripted model."
        assert whole.choices[0].finish_reason == "stop"
        assert whole.model == SCRIPTED
        assert whole.usage.completion_tokens == 7
        stream = await client.chat.completions.create(
            model=SCRIPTED, messages=_user("hi"), max_tokens=32, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
        assert texts == ["Hello", " from", " the", " scripted", " model", "."]
        assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [7]
        plain = [
            chunk
            async for chunk in await client.chat.completions.create(model=SCRIPTED, messages=_user("hi"), stream=True)
        ]
        assert not any(chunk.usage for chunk in plain)

    run(scenario)


def test_the_real_model_knows_the_capital_of_france(run):
    """The seed probe through the whole chain."""

    async def scenario(client):
        probe = "What is the capital of France? Respond with the city name only, no punctuation."
        answer = await client.chat.completions.create(
            model=DEMO, messages=_user(probe), temperature=0.1, max_tokens=64, seed=7
        )
        assert "Paris" in answer.choices[0].message.content

    run(scenario)


def test_stop_seed_logprobs_and_n(run):
    """`stop` cuts without leaking, `seed` repeats, `logprobs` are the model's own, `n` brings n choices."""

    async def scenario(client):
        stopped = await client.chat.completions.create(
            model=SCRIPTED, messages=_user("[[stop]]"), stop=["STOP"], max_tokens=32
        )
        assert stopped.choices[0].message.content == "alpha beta "
        thrown = [
            (
                await client.chat.completions.create(
                    model=SCRIPTED, messages=_user("[[dice]]"), seed=seed, temperature=1, top_p=1, max_tokens=32
                )
            )
            .choices[0]
            .message.content
            for seed in (7, 7, 8)
        ]
        assert thrown[0] == thrown[1] != thrown[2]
        told = await client.chat.completions.create(
            model=SCRIPTED, messages=_user("[[dice]]"), logprobs=True, top_logprobs=3, max_tokens=1
        )
        (first,) = told.choices[0].logprobs.content
        assert first.logprob == pytest.approx(-2.079, abs=0.1)
        assert len(first.top_logprobs) == 3
        several = await client.chat.completions.create(
            model=SCRIPTED, messages=_user("[[dice]]"), n=3, temperature=1, max_tokens=32
        )
        assert [choice.index for choice in several.choices] == [0, 1, 2]
        assert several.usage.completion_tokens == 3 * 9

    run(scenario)


def test_json_schema_holds(run):
    """`response_format` json_schema: what comes parses and fits."""

    async def scenario(client):
        schema = {
            "type": "object",
            "properties": {"answer": {"type": "integer"}},
            "required": ["answer"],
            "additionalProperties": False,
        }
        answer = await client.chat.completions.create(
            model=SCRIPTED,
            messages=_user("[[json]]"),
            max_tokens=64,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema, "strict": True},
            },
        )
        assert json.loads(answer.choices[0].message.content) == {"answer": 42}

    run(scenario)


def test_a_tool_round_trip(run):
    """The model calls the tool, streamed and not; with the tool's answer it ends."""

    async def scenario(client):
        asked = await client.chat.completions.create(
            model=SCRIPTED, messages=_user("Weather?"), tools=[TOOL], max_tokens=64
        )
        (call,) = asked.choices[0].message.tool_calls
        assert asked.choices[0].finish_reason == "tool_calls"
        assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
        stream = await client.chat.completions.create(
            model=SCRIPTED, messages=_user("Weather?"), tools=[TOOL], max_tokens=64, stream=True
        )
        arguments = ""
        async for chunk in stream:
            for delta in chunk.choices[0].delta.tool_calls or []:
                assert delta.index == 0
                arguments += delta.function.arguments or ""
        assert json.loads(arguments) == {"city": "Paris"}
        history = [
            *_user("Weather?"),
            asked.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
        ]
        ended = await client.chat.completions.create(model=SCRIPTED, messages=history, tools=[TOOL], max_tokens=64)
        assert ended.choices[0].message.content == "The tool answered, and the task is done."

    run(scenario)


def test_a_tool_that_must_be_called(run):
    """`required` and a named tool, with a real model that would rather talk: one call, streamed and not, and no text."""

    city = {"type": "string", "enum": ["Paris", "London"]}  # else it writes its poem there
    tool = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": city}, "required": ["city"]}}

    async def scenario(client):
        for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
            asked = {
                "model": DEMO,
                "messages": _user("Write a poem about Paris."),
                "tools": [{"type": "function", "function": tool}],
                "tool_choice": choice,
                "seed": 1,
                "max_tokens": 200,
            }
            whole = await client.chat.completions.create(**asked)
            (call,) = whole.choices[0].message.tool_calls
            assert whole.choices[0].finish_reason == "tool_calls"
            assert call.function.name == "get_weather"
            assert json.loads(call.function.arguments)["city"] in city["enum"]
            async with client.chat.completions.stream(**asked) as stream:
                final = await stream.get_final_completion()
            assert final.choices[0].message.tool_calls[0].function.arguments == call.function.arguments
            assert not final.choices[0].message.content

    run(scenario)


def test_a_tool_of_those_that_are_allowed(run):
    """`allowed_tools`: of two tools the model calls the one that it may."""
    tools = [TOOL, {"type": "function", "function": {"name": "end_world", "parameters": {"type": "object"}}}]

    async def scenario(client):
        for allowed in ("get_weather", "end_world"):
            named = [{"type": "function", "function": {"name": allowed}}]
            answer = await client.chat.completions.create(
                model=SCRIPTED,
                messages=_user("Weather?"),
                tools=tools,
                tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": named}},
                max_tokens=200,
            )
            (call,) = answer.choices[0].message.tool_calls
            assert call.function.name == allowed

    run(scenario)


def test_completions_and_embeddings(run):
    """The legacy completion, and vectors in both encodings (the SDK asks for base64 by itself)."""

    async def scenario(client):
        completed = await client.completions.create(model=SCRIPTED, prompt="Say something", max_tokens=16)
        assert completed.choices[0].text.startswith("Hello")
        told = await client.completions.create(model=SCRIPTED, prompt="Say", max_tokens=2, logprobs=1)
        assert (told.choices[0].logprobs.tokens, told.choices[0].logprobs.text_offset) == (["Hello", " from"], [0, 5])
        echoed = await client.completions.create(model=SCRIPTED, prompt="Say", max_tokens=2, echo=True)
        assert echoed.choices[0].text == "SayHello from"
        filled = await client.completions.create(model=SCRIPTED, prompt="x = ", suffix="\n", max_tokens=16)
        assert filled.choices[0].text == '{"answer": 42}'
        with pytest.raises(openai.BadRequestError) as untaught:
            await client.completions.create(model=DEMO, prompt="x = ", suffix="\n", max_tokens=16)
        assert untaught.value.param == "suffix"
        as_base64 = await client.embeddings.create(model=EMBED, input=["one", "two"])
        as_float = await client.embeddings.create(model=EMBED, input=["one", "two"], encoding_format="float")
        assert [len(item.embedding) for item in as_base64.data] == [256, 256]
        assert as_base64.data[1].embedding == pytest.approx(as_float.data[1].embedding, abs=1e-5)
        assert as_float.data[0].embedding != as_float.data[1].embedding
        raw = await client.embeddings.with_raw_response.create(model=EMBED, input="one")
        assert not {"server", "access-control-allow-origin"} & set(raw.headers)

    run(scenario)


def test_models_are_listed_and_retrieved(run):
    """`models.list` and `models.retrieve`, the shapes that the SDK validates."""

    async def scenario(client):
        listed = {model.id: model async for model in client.models.list()}
        assert {SCRIPTED, EMBED, DEMO} <= set(listed)
        one = await client.models.retrieve(DEMO)
        assert (one.id, one.object) == (DEMO, "model")

    run(scenario)


def test_errors_have_their_classes(run):
    """404, 400 and 422 arrive as the SDK's own classes, with OpenAI's codes."""

    async def scenario(client):
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.chat.completions.create(model="nobody/knows", messages=_user("hi"))
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nobody/knows")
        with pytest.raises(openai.BadRequestError) as wrong:
            await client.chat.completions.create(model=SCRIPTED, messages=_user("hi"), temperature=-3)
        assert wrong.value.param == "temperature"
        with pytest.raises(openai.BadRequestError) as long:
            await client.chat.completions.create(model=SCRIPTED, messages=_user("word " * 20_000), max_tokens=8)
        assert long.value.code == "context_length_exceeded"
        with pytest.raises(openai.UnprocessableEntityError) as modality:
            await client.embeddings.create(model=SCRIPTED, input="x")
        assert modality.value.code == "wrong_modality"
        assert f"'{EMBED}' does" in modality.value.message

    run(scenario)


def test_what_is_cut_inside_utf8_arrives_whole(run):
    """Emoji and accents whose bytes are split over tokens come out right, streamed and not."""

    async def scenario(client):
        whole = await client.chat.completions.create(model=SCRIPTED, messages=_user("[[emoji]]"), max_tokens=64)
        stream = await client.chat.completions.create(
            model=SCRIPTED, messages=_user("[[emoji]]"), max_tokens=64, stream=True
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        assert text == whole.choices[0].message.content == "Café 😀 and 日本 then 👩‍💻 end"

    run(scenario)

"""The official `ollama` package, unmodified, against gateway + neuron + real engines."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import ollama
import pytest
from helpers.engine_recording import THINKING_TEMPLATE
from helpers.gateways import eventually
from helpers.live import SCRIPTED, SCRIPTED_MODEL, running_fleet
from helpers.scripted_gguf import script_text

pytestmark = pytest.mark.model
EMBED = "embed"
COLD = "cold"
HELLO = script_text("hello")
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@contextlib.asynccontextmanager
async def _sdk(models_dir, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    for name in (SCRIPTED, EMBED, COLD):
        (folder / f"{name}.gguf").symlink_to((models_dir / f"{SCRIPTED}.gguf").resolve())
    models = [
        SCRIPTED_MODEL | {"chat_template": THINKING_TEMPLATE},
        {"model_id": EMBED, "threads": 1, "context": 2048, "mode": "embedding"},
    ]
    catalogue = {"models": [{"id": COLD, "threads": 1, "context": 2048}]}
    async with (
        running_fleet(folder, default_models=models, catalogue=catalogue) as fleet,
        ollama.AsyncClient(host=fleet.url) as client,
    ):
        yield client


@pytest.fixture(name="run")
def _run(models_dir, tmp_path):
    def run(scenario):
        async def session():
            async with _sdk(models_dir, tmp_path) as client:
                return await scenario(client)

        return asyncio.run(session())

    return run


def _user(text):
    return [{"role": "user", "content": text}]


def test_chat_and_generate_whole_and_streamed(run):
    """The same text in all four ways, with its figures; the tag `latest` means nothing more."""

    async def scenario(client):
        whole = await client.chat(SCRIPTED, _user("hi"), keep_alive="5m")
        assert (whole.message.content, whole.done_reason, whole.eval_count) == (HELLO, "stop", 7)
        pieces = [piece async for piece in await client.chat(f"{SCRIPTED}:latest", _user("hi"), stream=True)]
        assert "".join(piece.message.content for piece in pieces) == HELLO
        assert pieces[-1].prompt_eval_count == whole.prompt_eval_count
        assert (await client.generate(SCRIPTED, "hi")).response == HELLO
        streamed = [piece.response async for piece in await client.generate(SCRIPTED, "hi", stream=True)]
        assert "".join(streamed) == HELLO
        raw = await client.generate(SCRIPTED, "anything", raw=True, options={"num_predict": 6})
        assert raw.response.startswith("Hello")
        assert (await client.generate(SCRIPTED, "x = ", suffix="y")).response == '{"answer": 42}'
        raw_pieces = [
            piece.response
            async for piece in await client.generate(SCRIPTED, "x", raw=True, stream=True, options={"num_predict": 3})
        ]
        assert "".join(raw_pieces) == "Hello from the"

    run(scenario)


def test_a_tool_round_trip(run):
    """The call has its arguments as an object, streamed and not; with the tool's answer the model ends."""

    async def scenario(client):
        whole = await client.chat(SCRIPTED, _user("Weather?"), tools=[TOOL])
        streamed = [piece async for piece in await client.chat(SCRIPTED, _user("Weather?"), tools=[TOOL], stream=True)]
        calls = [call for piece in streamed for call in piece.message.tool_calls or ()]
        for call in (whole.message.tool_calls[0], *calls):
            assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Paris"})
        assert len(calls) == 1
        history = [*_user("Weather?"), whole.message, {"role": "tool", "content": "18 C", "tool_name": "get_weather"}]
        ended = await client.chat(SCRIPTED, history, tools=[TOOL])
        assert ended.message.content == script_text("after")

    run(scenario)


def test_thinking_and_formats(run):
    """Reasoning is `thinking`; a schema holds; a bound is told."""

    async def scenario(client):
        thought = await client.chat(SCRIPTED, _user("[[think]]"), think=True)
        assert (thought.message.thinking.strip(), thought.message.content) == ("I ponder.", "Pondered result.")
        schema = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
        held = await client.chat(SCRIPTED, _user("[[json]]"), format=schema, options={"num_predict": 40})
        assert held.message.content.replace(" ", "") == '{"answer":42}'
        cut = await client.chat(SCRIPTED, _user("[[loop]]"), options={"num_predict": 5})
        assert (cut.done_reason, cut.eval_count) == ("length", 5)

    run(scenario)


def test_models_and_embeddings(run):
    """What there is, what runs, what one can do, and vectors for several texts."""

    async def scenario(client):
        assert {SCRIPTED, EMBED, COLD} <= {model.model for model in (await client.list()).models}
        assert {model.model for model in (await client.ps()).models} == {SCRIPTED, EMBED}
        shown = await client.show(SCRIPTED)
        assert {"completion", "tools"} <= set(shown.capabilities)
        assert shown.modelinfo["cortex.context_length"] == 8192
        vectors = (await client.embed(EMBED, ["one", "two"])).embeddings
        assert [len(vector) for vector in vectors] == [256, 256]
        assert vectors[0] != vectors[1]
        assert len((await client.embeddings(EMBED, "one")).embedding) == 256

    run(scenario)


def test_a_model_is_loaded_by_an_empty_request(run):
    """A prompt that is none loads the model, and says so when it is."""

    async def scenario(client):
        assert (await client.generate(COLD)).done_reason == "load"
        assert COLD in {model.model for model in (await client.ps()).models}

    run(scenario)


def test_keep_alive_is_how_long_a_model_stays(run):
    """`ps` tells when it leaves; 0 lets it go after this answer, or at once where there is nothing to answer."""

    async def scenario(client):
        async def running():
            return {model.model: model.expires_at for model in (await client.ps()).models}

        before = datetime.now(UTC)
        await client.chat(SCRIPTED, _user("hi"), keep_alive="5m")
        await eventually(lambda: _leaves(running, SCRIPTED, before + timedelta(minutes=4), minutes=6))
        assert (await running())[EMBED].year > 2300
        await client.embed(EMBED, "one", keep_alive=0)
        await eventually(lambda: _is_gone(running, EMBED))
        await client.chat(SCRIPTED, _user("hi"), keep_alive=-1)
        await eventually(lambda: _leaves(running, SCRIPTED, datetime(2300, 1, 1, tzinfo=UTC)))
        assert (await client.generate(SCRIPTED, keep_alive=0)).done_reason == "unload"
        await eventually(lambda: _is_gone(running, SCRIPTED))
        with pytest.raises(ollama.ResponseError, match="not found"):
            await client.generate("nobody/knows", keep_alive=0)

    run(scenario)


async def _is_gone(running, model):
    return model not in await running()


async def _leaves(running, model, earliest, minutes=None):
    """Whether it leaves after `earliest`, and within so many minutes from now."""
    leaves = (await running())[model]
    return leaves > earliest and (minutes is None or leaves < datetime.now(UTC) + timedelta(minutes=minutes))


def test_errors_are_texts(run):
    """Unknown models, the wrong kind of model and mistakes: the SDK's own error with a status."""

    async def scenario(client):
        for asking, status in (
            (client.chat("nobody/knows", _user("hi")), 404),
            (client.show("nobody/knows"), 404),
            (client.embed(SCRIPTED, "x"), 422),
            (client.chat(SCRIPTED, _user("hi"), options={"temperature": -3.0}), 400),
        ):
            with pytest.raises(ollama.ResponseError) as failed:
                await asking
            assert failed.value.status_code == status
            assert failed.value.error
        with pytest.raises(ollama.ResponseError, match="not found"):
            async for _ in await client.chat("nobody/knows", _user("hi"), stream=True):
                pass

    run(scenario)

"""The official `anthropic` SDK, unmodified and validating every answer, against gateway + neuron + real engines."""

import contextlib

import anthropic
import pytest
from helpers.engine_recording import THINKING_TEMPLATE
from helpers.live import DEMO, DEMO_MODEL, SCRIPTED, SCRIPTED_MODEL, running_fleet
from helpers.scripted_gguf import script_text
from helpers.shared import shared

pytestmark = pytest.mark.model
COLD = "cold"
CLAUDE = "claude-local"
MODELS = [SCRIPTED_MODEL | {"chat_template": THINKING_TEMPLATE}, DEMO_MODEL]
TOOL = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@contextlib.asynccontextmanager
async def _sdk(models_dir, folder):
    for file in models_dir.iterdir():
        (folder / file.name).symlink_to(file.resolve())
    (folder / f"{COLD}.gguf").symlink_to((models_dir / f"{SCRIPTED}.gguf").resolve())
    catalogue = {"aliases": {CLAUDE: SCRIPTED}, "models": [{"id": COLD, "threads": 1, "context": 8192}]}
    async with (
        running_fleet(folder, catalogue=catalogue, default_models=MODELS) as fleet,
        anthropic.AsyncAnthropic(
            base_url=fleet.url, api_key="any", max_retries=0, timeout=60, _strict_response_validation=True
        ) as client,
    ):
        yield client


@pytest.fixture(name="run", scope="module")
def _run(models_dir, tmp_path_factory):
    with shared(_sdk(models_dir, tmp_path_factory.mktemp("models"))) as run:
        yield run


def _ask(text, **more):
    return {"model": SCRIPTED, "max_tokens": 64, "messages": [{"role": "user", "content": text}]} | more


def test_a_message_and_its_stream_say_the_same(run):
    """Text, stop reason and usage are equal, and message_start told the prompt's tokens before the first of the answer."""

    async def scenario(client):
        whole = await client.messages.create(**_ask("hi", system="Be brief."))
        assert whole.id.startswith("msg_")
        assert whole.content[0].text == script_text("hello")
        assert (whole.model, whole.stop_reason, whole.stop_sequence) == (SCRIPTED, "end_turn", None)
        async with client.messages.stream(**_ask("hi", system="Be brief.")) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_message()
        prompt = whole.usage.input_tokens + whole.usage.cache_read_input_tokens
        assert [event.message.usage.input_tokens for event in events if event.type == "message_start"] == [prompt]
        assert [block.text for block in final.content] == [block.text for block in whole.content]
        assert final.usage.output_tokens == whole.usage.output_tokens == 7
        assert final.usage.input_tokens + final.usage.cache_read_input_tokens == prompt
        assert final.stop_reason == "end_turn"

    run(scenario)


def test_a_tool_round_trip(run):
    """The model calls the tool, streamed and not; with the tool's result it ends."""

    async def scenario(client):
        asked = _ask("Weather?", tools=[TOOL])
        whole = await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            streamed = await stream.get_final_message()
        for message in (whole, streamed):
            (call,) = message.content
            assert (message.stop_reason, call.name, call.input) == ("tool_use", "get_weather", {"city": "Paris"})
            result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "18 C"}]}
            history = [
                *asked["messages"],
                {"role": "assistant", "content": message.content},
                {"role": "user", "content": [result]},
            ]
            ended = await client.messages.create(**asked | {"messages": history})
            assert ended.content[0].text == script_text("after")

    run(scenario)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_tool_choice_is_enforced(run, choice):
    """A call that was demanded comes, also from a model that would rather talk."""

    async def scenario(client):
        message = await client.messages.create(
            **_ask("[[text]]", tools=[TOOL], tool_choice=choice, extra_body={"temperature": 0})
        )
        assert [block.type for block in message.content if block.type != "thinking"] == ["tool_use"]
        assert message.content[-1].name == "get_weather"

    run(scenario)


def test_no_tool_is_called_when_none_is_chosen(run):
    """`tool_choice` none: the model answers with text."""

    async def scenario(client):
        message = await client.messages.create(**_ask("hi", tools=[TOOL], tool_choice={"type": "none"}))
        assert [block.type for block in message.content] == ["text"]

    run(scenario)


def test_thinking_is_a_block_of_its_own(run):
    """Reasoning comes before the text, streamed and not, and is taken back in the next turn."""

    async def scenario(client):
        asked = _ask("[[think]]", thinking={"type": "adaptive"})
        whole = await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            streamed = await stream.get_final_message()
        for message in (whole, streamed):
            thought, said = message.content
            assert (thought.type, thought.thinking.strip()) == ("thinking", "I ponder.")
            assert (said.type, said.text) == ("text", "Pondered result.")
        history = [*asked["messages"], {"role": "assistant", "content": whole.content}, *_ask("hi")["messages"]]
        again = await client.messages.create(**asked | {"messages": history})
        assert again.content[-1].text == script_text("hello")

    run(scenario)


def test_stop_sequences_and_bounds(run):
    """What ended the answer is told: a stop sequence by name, the bound on tokens, the end of the turn."""

    async def scenario(client):
        stopped = await client.messages.create(**_ask("[[stop]]", stop_sequences=["STOP"]))
        assert stopped.content[0].text == "alpha beta "
        assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "STOP")
        async with client.messages.stream(**_ask("[[stop]]", stop_sequences=["STOP"])) as stream:
            streamed = await stream.get_final_message()
        assert (streamed.stop_reason, streamed.stop_sequence) == ("stop_sequence", "STOP")
        bounded = await client.messages.create(**_ask("[[loop]]", max_tokens=5))
        assert (bounded.stop_reason, bounded.usage.output_tokens) == ("max_tokens", 5)
        rest = await client.messages.create(**_ask("hi", max_tokens=10_000_000))
        assert rest.stop_reason == "end_turn"

    run(scenario)


def test_what_is_cut_inside_utf8_arrives_whole(run):
    """Emoji and accents whose bytes are split over tokens come out right in a stream."""

    async def scenario(client):
        async with client.messages.stream(**_ask("[[emoji]]")) as stream:
            text = "".join([piece async for piece in stream.text_stream])
        assert text == script_text("emoji")

    run(scenario)


def test_tokens_are_counted_exactly(run):
    """A count is what the message then uses, with system, tools and history; also of a model that is not loaded, which stays so."""

    async def scenario(client):
        for more in ({}, {"system": "Be brief."}, {"tools": [TOOL]}):
            asked = _ask("How many are these, 日本?", **more)
            counting = {key: value for key, value in asked.items() if key != "max_tokens"}
            counted = await client.messages.count_tokens(**counting)
            used = (await client.messages.create(**asked)).usage
            assert counted.input_tokens == used.input_tokens + used.cache_read_input_tokens
        cold = await client.messages.count_tokens(**counting | {"model": COLD})
        models = {model.id: model async for model in client.models.list()}
        assert not models[COLD].loaded
        warm = (await client.messages.create(**asked | {"model": COLD})).usage
        assert cold.input_tokens == warm.input_tokens + warm.cache_read_input_tokens

    run(scenario)


def test_the_real_model_knows_the_capital_of_france(run):
    """The seed probe in Anthropic's dialect."""

    async def scenario(client):
        probe = "What is the capital of France? Respond with the city name only, no punctuation."
        async with client.messages.stream(**_ask(probe, model=DEMO, extra_body={"temperature": 0})) as stream:
            assert "Paris" in await stream.get_final_text()

    run(scenario)


def test_models_in_anthropics_shape(run):
    """`models.list` pages through everything, names aliases as Claude Code looks for them, and finds one by its id."""

    async def scenario(client):
        listed = [model async for model in client.models.list(limit=2)]
        ids = [model.id for model in listed]
        assert {SCRIPTED, DEMO, COLD, CLAUDE} <= set(ids)
        assert len(ids) == len(set(ids))
        assert all(model.type == "model" and model.display_name for model in listed)
        one = await client.models.retrieve(CLAUDE)
        assert (one.id, one.type) == (CLAUDE, "model")
        answer = await client.messages.create(**_ask("hi", model=CLAUDE))
        assert answer.model == CLAUDE

    run(scenario)


def _error(raised):
    assert raised.value.body["type"] == "error"
    return raised.value.body["error"]


def test_errors_have_their_classes(run):
    """Unknown models, wrong fields and overflows arrive as the SDK's classes, in Anthropic's envelope, with the request's id."""

    async def scenario(client):
        with pytest.raises(anthropic.NotFoundError) as unknown:
            await client.messages.create(**_ask("hi", model="nobody/knows"))
        assert _error(unknown)["type"] == "not_found_error"
        assert unknown.value.request_id
        assert isinstance(unknown.value.body, dict)
        assert unknown.value.body["request_id"] == unknown.value.request_id
        with pytest.raises(anthropic.BadRequestError) as wrong:
            await client.messages.create(**_ask("hi", messages=[{"role": "king", "content": "x"}]))
        assert "messages.0.role" in _error(wrong)["message"]
        with pytest.raises(anthropic.BadRequestError):
            await client.messages.create(**_ask("hi", extra_body={"temperature": -3}))
        for stream in (False, True):
            with pytest.raises(anthropic.BadRequestError) as long:
                await client.messages.create(**_ask("word " * 20_000, stream=stream))
            assert _error(long)["message"].startswith("prompt is too long")
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.count_tokens(model="nobody/knows", messages=_ask("hi")["messages"])
        with pytest.raises(anthropic.NotFoundError):
            await client.models.retrieve("nobody/knows")

    run(scenario)

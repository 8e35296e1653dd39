"""Legacy completions: `echo`, and log probabilities in the shape of that API."""

import asyncio

import orjson
import pytest
from helpers.engines import engine_spec, running_engine
from helpers.translated import chunks, translated

COMPLETIONS = "/v1/completions"
USAGE = {"include_usage": True}


def _text(stream, index=0):
    return "".join(c["text"] for chunk in chunks(stream) for c in chunk["choices"] if c["index"] == index)


@pytest.mark.model
def test_echo_begins_each_text_with_its_prompt(scripted_model, tmp_path):
    """Once for each choice, streamed and not."""

    async def scenario():
        spec = engine_spec(scripted_model, tmp_path)
        async with running_engine(spec) as engine:
            body = {"prompt": ["One:", "Two:"], "n": 2, "max_tokens": 2, "echo": True}
            answer = orjson.loads(await translated(engine, COMPLETIONS, body, spec))
            texts = [choice["text"] for choice in answer["choices"]]
            assert texts == ["One:Hello from"] * 2 + ["Two:Hello from"] * 2
            stream = await translated(engine, COMPLETIONS, body | {"stream": True}, spec)
            assert [_text(stream, index) for index in range(4)] == texts

    asyncio.run(scenario())


@pytest.mark.model
@pytest.mark.parametrize("top", [0, 2])
def test_log_probabilities_have_their_legacy_shape(top, scripted_model, tmp_path):
    """Lists side by side: tokens, their own probability, `top` alternatives, and where they begin in the text."""

    async def scenario():
        spec = engine_spec(scripted_model, tmp_path)
        async with running_engine(spec) as engine:
            body = {"prompt": "Say", "max_tokens": 3, "logprobs": top}
            (choice,) = orjson.loads(await translated(engine, COMPLETIONS, body, spec))["choices"]
            told = choice["logprobs"]
            assert told["tokens"] == ["Hello", " from", " the"]
            assert told["text_offset"] == [0, 5, 10]
            assert told["token_logprobs"] == pytest.approx([0, 0, 0], abs=1e-3)
            assert all(
                token in alternatives for token, alternatives in zip(told["tokens"], told["top_logprobs"], strict=True)
            )
            assert all(max(top, 1) <= len(alternatives) <= top + 1 for alternatives in told["top_logprobs"])
            stream = chunks(await translated(engine, COMPLETIONS, body | {"stream": True}, spec))
            offsets = [c["logprobs"]["text_offset"] for chunk in stream for c in chunk["choices"] if c["logprobs"]]
            assert offsets == [[0], [5], [10]]

    asyncio.run(scenario())


@pytest.mark.model
def test_usage_is_a_chunk_of_its_own(scripted_model, tmp_path):
    """The last one, exactly when it was asked for; the engine puts it into a text's last chunk, always."""

    async def scenario():
        spec = engine_spec(scripted_model, tmp_path)
        async with running_engine(spec) as engine:
            body = {"prompt": "Say", "max_tokens": 3, "stream": True}
            plain = chunks(await translated(engine, COMPLETIONS, body, spec))
            assert not any("usage" in chunk for chunk in plain)
            assert [chunk["choices"][0]["text"] for chunk in plain] == ["Hello", " from", " the", ""]
            *rest, last = chunks(await translated(engine, COMPLETIONS, body | {"stream_options": USAGE}, spec))
            assert not any("usage" in chunk for chunk in rest)
            assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 3)

    asyncio.run(scenario())

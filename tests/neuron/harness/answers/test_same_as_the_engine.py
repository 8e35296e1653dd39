"""Differential: an answer put together from the engine's stream against the one that the engine gives whole."""

import asyncio

import orjson
import pytest
from helpers.engines import ask, engine_spec, running_engine, says
from helpers.scripted_gguf import TEMPLATE
from helpers.translated import chunks, translated

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
# A template that renders a message's reasoning, from which llama.cpp learns to take it out of answers.
THINKING = TEMPLATE.replace(
    "{{- '<|im_start|>assistant' }}",
    "{{- '<|im_start|>assistant' }}{%- if message.reasoning_content %}{{- '\\n<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}{%- endif %}",
)
CASES = [
    (CHAT, says("hi")),
    (CHAT, says("hi", max_tokens=3)),
    (CHAT, says("[[emoji]]")),
    (CHAT, says("[[stop]]", stop=["STOP"])),
    (CHAT, says("[[stop]]", stop="beta")),
    (CHAT, says("[[think]]")),
    (CHAT, says("[[think]]", reasoning_format="none")),
    (CHAT, says("[[think]]", max_tokens=3)),
    (CHAT, says("[[loop]]", max_tokens=40)),
    (CHAT, says("Weather?", tools=[TOOL])),
    (CHAT, says("Weather?", tools=[TOOL], max_tokens=5)),
    (CHAT, says("[[text]]", tools=[TOOL])),
    (CHAT, says("[[json]]", response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}})),
    (CHAT, says("[[dice]]", n=3, seed=5, temperature=1)),
    (CHAT, says("[[dice]]", seed=5, temperature=1, max_tokens=4, logprobs=True, top_logprobs=3)),
    (CHAT, says("[[emoji]]", logprobs=True, top_logprobs=2)),
    (COMPLETIONS, {"prompt": "Say", "max_tokens": 16}),
    (COMPLETIONS, {"prompt": ["Say", "it again"], "max_tokens": 4, "n": 2}),
    (COMPLETIONS, {"prompt": [1, 2, 3], "max_tokens": 4}),
]


def _comparable(answer):
    """Without what is different each time; and without the end-of-text token, which is no part of an OpenAI answer."""
    for field in ("id", "created", "timings"):
        assert answer.pop(field)
    for choice in answer["choices"]:
        for call in choice.get("message", {}).get("tool_calls", ()):
            assert call.pop("id")
        if logprobs := choice.get("logprobs"):
            logprobs["content"] = [token for token in logprobs["content"] if token["bytes"]]
    return answer


def _as_vendors_require(answer, choices):
    """The engine's own answer with the fields that it leaves out, and with the usage of all choices."""
    for choice in answer["choices"]:
        choice.setdefault("logprobs", None)
        if "message" in choice:
            choice["message"]["refusal"] = None
            if choice["logprobs"]:
                choice["logprobs"]["refusal"] = None
    assert len(answer["choices"]) == choices
    return answer


@pytest.mark.model
def test_a_whole_answer_is_the_engine_s_own(scripted_model, tmp_path):
    """Text, tools, schema, reasoning, stop, length, log probabilities, several choices: equal but for id, time and what is mended."""

    async def scenario():
        spec = engine_spec(scripted_model, tmp_path, chat_template=THINKING, parallel=4)
        async with running_engine(spec) as engine:
            for path, body in CASES:
                await ask(engine, path, body)  # so that both find the prompt in the cache
                _, own = await ask(engine, path, body)
                choices = body.get("n", 1) * (len(body["prompt"]) if isinstance(body.get("prompt"), list) else 1)
                if body.get("prompt") == [1, 2, 3]:
                    choices = 1
                ours = orjson.loads(await translated(engine, path, body, spec))
                if choices > 1:
                    assert own.pop("usage") != ours.pop("usage"), body
                assert _comparable(ours) == _as_vendors_require(_comparable(own), choices), body

    asyncio.run(scenario())


@pytest.mark.model
def test_a_stream_says_what_the_whole_answer_says(scripted_model, tmp_path):
    """Joined, a stream's deltas are the whole answer's message, its usage and its end."""

    async def scenario():
        spec = engine_spec(scripted_model, tmp_path, chat_template=THINKING, parallel=4)
        async with running_engine(spec) as engine:
            for path, body in CASES:
                await ask(engine, path, body)
                whole = orjson.loads(await translated(engine, path, body, spec))
                asked = body | {"stream": True, "stream_options": {"include_usage": True}}
                stream = await translated(engine, path, asked, spec)
                assert stream.endswith(b"data: [DONE]\n\n")
                assert _joined(chunks(stream)) == _joined([_as_chunk(whole)]), body
                assert chunks(stream)[-1]["usage"] == whole["usage"], body

    asyncio.run(scenario())


def _as_chunk(answer):
    for choice in answer["choices"]:
        if "message" in choice:
            choice["delta"] = choice.pop("message")
            for index, call in enumerate(choice["delta"].get("tool_calls", ())):
                call["index"] = index
    return answer


def _joined(pieces):
    """What all choices say, field by field, and how they end."""
    said: dict[tuple[object, ...], str] = {}
    ends = {}

    def add(value, *key):
        said[key] = said.get(key, "") + (value or "")

    for choice in (choice for chunk in pieces for choice in chunk["choices"]):
        index, delta = choice["index"], choice.get("delta", {})
        for field in ("content", "reasoning_content"):
            add(delta.get(field), index, field)
        add(choice.get("text"), index, "text")
        for call in delta.get("tool_calls", ()):
            for field in ("name", "arguments"):
                add(call["function"].get(field), index, call["index"], field)
        if choice["finish_reason"]:
            assert index not in ends
            ends[index] = choice["finish_reason"]
    return said, ends


@pytest.mark.model
def test_usage_counts_every_choice(scripted_model, tmp_path):
    """`n` choices cost n answers and one prompt; two prompts cost both."""

    async def scenario():
        spec = engine_spec(scripted_model, tmp_path, parallel=4)
        async with running_engine(spec) as engine:
            one = orjson.loads(await translated(engine, CHAT, says("[[dice]]"), spec))["usage"]
            for stream in (False, True):
                body = says("[[dice]]", n=3, stream=stream, stream_options={"include_usage": True} if stream else None)
                raw = await translated(engine, CHAT, body, spec)
                three = (chunks(raw)[-1] if stream else orjson.loads(raw))["usage"]
                assert three["completion_tokens"] == 3 * one["completion_tokens"] == 27
                assert three["prompt_tokens"] == one["prompt_tokens"]
                assert three["total_tokens"] == three["prompt_tokens"] + three["completion_tokens"]
            both = {"prompt": [[1, 2, 3], [4, 5]], "max_tokens": 2, "n": 2}
            usage = orjson.loads(await translated(engine, COMPLETIONS, both, spec))["usage"]
            assert (usage["prompt_tokens"], usage["completion_tokens"]) == (5, 8)

    asyncio.run(scenario())

"""One SentencePiece file, served by both harnesses: the same requests get answers of the same shape. Their words may differ."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from helpers.effort import cases
from helpers.live import Live, running_neuron

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(cases(120, 3600))]

HARNESSES = ("llamacpp", "ctransformers")
SETTINGS = {"threads": 1, "context": 512, "chat_template": "chatml"}
QUESTION = "What is the capital of France?"


@contextlib.asynccontextmanager
async def _both(folder: Any) -> AsyncIterator[tuple[Live, Live]]:
    """A neuron for each harness, with the file loaded by it."""
    async with running_neuron(folder) as first, running_neuron(folder) as second:
        for neuron, harness in zip((first, second), HARNESSES, strict=True):
            loaded = await neuron.load({"model_id": "spm", "harness": harness, **SETTINGS})
            assert loaded.status_code == 200, loaded.text
        yield first, second


def _requests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Sixty and some: good ones of all kinds, streamed and not, and bad ones."""
    chat: dict[str, Any] = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
    text: dict[str, Any] = {"prompt": "The capital of France is", "temperature": 0}
    good: list[dict[str, Any]] = [
        {"max_tokens": 4},
        {"max_tokens": 1},
        {"max_tokens": 32},
        {"max_tokens": 32, "stop": ["Paris"]},
        {"max_tokens": 32, "stop": ["ari"]},
        {"max_tokens": 32, "stop": "capital"},
        {"max_tokens": 3, "stop": ["never said"]},
        {"max_tokens": 5, "seed": 7, "temperature": 0.5},
        {"max_tokens": 5, "top_p": 0.1, "temperature": 1},
        {"max_tokens": 5, "top_k": 1, "temperature": 2},
        {"max_tokens": 3, "logit_bias": {"100": -100}},
        {"max_tokens": 3, "frequency_penalty": 1, "presence_penalty": 1},
    ]
    bad: list[dict[str, Any]] = [
        {"temperature": "warm"},
        {"temperature": 3},
        {"top_p": 2},
        {"max_tokens": -1},
        {"stop": [1]},
        {"seed": "x"},
        {"n": 0},
        {"logit_bias": "strong"},  # a word as a key is llama.cpp's own addition
        {"stream": "yes"},
        {"presence_penalty": 9},
    ]
    for more in good:
        yield "/v1/chat/completions", {**chat, **more}
        yield "/v1/chat/completions", {**chat, **more, "stream": True, "stream_options": {"include_usage": True}}
    for more in bad:
        yield "/v1/chat/completions", {**chat, "max_tokens": 4, **more}
    for more in good:
        yield "/v1/completions", {**text, **more}
    for more in bad:
        yield "/v1/completions", {**text, "max_tokens": 4, **more}
    yield "/v1/chat/completions", {**chat, "messages": [], "max_tokens": 4}
    begun = {"role": "assistant", "content": "The capital of France is"}
    yield "/v1/chat/completions", {**chat, "messages": [*chat["messages"], begun], "max_tokens": 4}
    parts = [{"type": "text", "text": "What is the"}, {"type": "text", "text": "capital of France?"}]
    yield "/v1/chat/completions", {**chat, "messages": [{"role": "user", "content": parts}], "max_tokens": 4}
    brief = {"role": "developer", "content": "Be brief."}
    yield "/v1/chat/completions", {**chat, "messages": [brief, *chat["messages"]], "max_tokens": 4}
    yield "/v1/chat/completions", {**chat, "n": 2, "logprobs": True, "top_logprobs": 3, "max_tokens": 4}
    yield "/v1/completions", {**text, "prompt": ["One, two,", "Once upon"], "logprobs": 2, "max_tokens": 4}
    yield "/v1/chat/completions", {**chat, "messages": [{"role": "user", "content": "word " * 2000}], "max_tokens": 4}
    yield "/v1/completions", {**text, "prompt": "word " * 2000, "max_tokens": 4}
    yield "/v1/embeddings", {"input": "text"}


REQUESTS = list(_requests())


def _told(answer: Any) -> tuple[Any, str]:
    """What both have to agree on, and the text."""
    if answer.status_code != 200:
        error = answer.json()["error"]
        return (answer.status_code, error["type"], error["code"], error["param"]), ""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        body = answer.json()
        choice = body["choices"][0]
        said = choice["message"]["content"] if "message" in choice else choice["text"]
        return (200, body["object"], choice["finish_reason"], body["usage"]["prompt_tokens"]), said
    *events, done = [line.removeprefix("data: ") for line in answer.text.split("\n") if line.startswith("data: ")]
    assert done == "[DONE]"
    chunks = [json.loads(event) for event in events]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    said = "".join(choice["delta"].get("content") or "" for choice in choices)
    (usage,) = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    return (200, chunks[0]["object"], choices[-1]["finish_reason"], usage["prompt_tokens"]), said


def test_usage_ends_stops_and_errors_agree(old_llama_dir):
    """The same status, the same code and field of an error, the same count of the prompt; a stop string is in neither text."""
    step = max(1, len(REQUESTS) // cases(12, 60))
    asked = REQUESTS[::step]

    async def scenario() -> list[str]:
        unlike = []
        async with _both(old_llama_dir) as neurons:
            for path, body in asked:
                answers = await asyncio.gather(*(n.http.post(path, json={"model": "spm", **body}) for n in neurons))
                (first, text), (second, other) = map(_told, answers)
                stops = body.get("stop") if isinstance(body.get("stop"), list) else [body.get("stop")]
                held = all(
                    stop not in said
                    for stop, said in itertools.product(stops or (), (text, other))
                    if isinstance(stop, str)
                )
                # Where the texts part, one may end where the other does not.
                same = first == second or (text != other and _without_end(first) == _without_end(second))
                if not (same and held):
                    unlike.append(f"{path} {json.dumps(body)[:120]}: {first} {text!r}, {second} {other!r}")
        return unlike

    unlike = asyncio.run(scenario())
    assert not unlike, "\n".join(unlike)


def _without_end(told: tuple[Any, ...]) -> tuple[Any, ...]:
    return told[:2] + told[3:] if told[0] == 200 else told


def test_a_stream_loses_nothing(old_llama_dir):
    """Seeded answers with accents, Japanese and emoji: streamed, each says what it says whole."""
    prompts = ("Le café est", "日本語のテキスト:", "😀 🎉 emoji:", "Привет мир, café, 漢字 and 🚀")

    async def scenario() -> int:
        beyond_ascii = 0
        async with running_neuron(old_llama_dir) as neuron:
            assert (
                await neuron.load({"model_id": "spm", "harness": "ctransformers", "threads": 1, "context": 512})
            ).status_code == 200
            for seed in range(cases(4, 500)):
                body = {
                    "model": "spm",
                    "prompt": prompts[seed % len(prompts)],
                    "max_tokens": 10,
                    "temperature": 1.8,
                    "seed": seed,
                }
                whole = (await neuron.http.post("/v1/completions", json=body)).json()["choices"][0]["text"]
                stream = (await neuron.http.post("/v1/completions", json={**body, "stream": True})).text
                events = [json.loads(line[6:]) for line in stream.split("\n") if line.startswith("data: {")]
                assert "".join(choice["text"] for event in events for choice in event["choices"]) == whole, seed
                beyond_ascii += not whole.isascii()
        return beyond_ascii

    assert asyncio.run(scenario()) > 0

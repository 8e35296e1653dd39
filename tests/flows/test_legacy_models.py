"""Models of before GGUF through a neuron's HTTP API, in real engines."""

import asyncio
import json
import os
import signal

import pytest
from helpers.legacy_ggml import ANSWER, FAMILIES, PROMPT
from helpers.live import running_neuron
from helpers.processes import children, only_child
from helpers.waiting import until

pytestmark = pytest.mark.model

GGJT = {"model_id": "ggjt", "threads": 1, "context": 512}
QUESTION = "What is the capital of France?"


async def _complete(neuron, model, prompt, **more):
    body = {"model": model, "prompt": prompt, "max_tokens": 16, "temperature": 0, **more}
    return await neuron.http.post("/v1/completions", json=body)


async def _streamed(neuron, path, body):
    """A stream's chunks, and its text."""
    chunks, ended = [], False
    async with neuron.http.stream("POST", path, json={**body, "stream": True}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        async for line in stream.aiter_lines():
            if line == "data: [DONE]":
                ended = True
            elif line.startswith("data: "):
                chunks.append(json.loads(line[6:]))
    assert ended
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    text = "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)
    return chunks, text


@pytest.mark.parametrize("family", [*FAMILIES, "falcon"])
def test_every_family_gives_its_known_answer(legacy_dir, family):
    """`auto` finds the harness by the file's header; the answer, its end and its tokens are the model's."""

    async def scenario():
        async with running_neuron(legacy_dir) as neuron:
            loaded = await neuron.load({"model_id": family, "threads": 1})
            assert loaded.status_code == 200, loaded.text
            answer = (await _complete(neuron, family, PROMPT)).json()
            assert answer["choices"][0] == {"index": 0, "text": ANSWER, "logprobs": None, "finish_reason": "stop"}
            assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (5, 3)
            assert (answer["object"], answer["model"]) == ("text_completion", family)
            _, text = await _streamed(neuron, "/v1/completions", {"model": family, "prompt": PROMPT, "temperature": 0})
            assert text == ANSWER
            (entry,) = await neuron.get("/models")
            assert (entry["harness"], entry["quant"]) == ("ctransformers", "F32")

    asyncio.run(scenario())


def test_what_a_host_has_says_which_harness_serves_it(old_llama_dir):
    """Discovery names the harness; files on disk are listed with theirs; llama.cpp keeps what it can read."""

    async def scenario():
        async with running_neuron(old_llama_dir) as neuron:
            assert (await neuron.get("/discovery"))["harnesses"] == ["ctransformers", "llamacpp"]
            listed = {entry["id"]: entry["harness"] for entry in await neuron.get("/models?all=true")}
            assert listed == {"ggjt": "ctransformers", "spm": "llamacpp"}
            refused = await neuron.load({"model_id": "ggjt", "harness": "llamacpp"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "unsupported_model")
            assert "before GGUF" in refused.json()["error"]["message"]

    asyncio.run(scenario())


def test_a_legacy_llama_chats(old_llama_dir):
    """SmolLM2 as ggjt speaks ChatML, which its vocabulary shows; asked by name the harness serves llama GGUF, too."""

    async def scenario():
        async with running_neuron(old_llama_dir) as neuron:
            assert (await neuron.load(GGJT)).status_code == 200
            answer = (await neuron.chat("ggjt", QUESTION)).json()
            message = answer["choices"][0]["message"]
            assert (message["role"], "Paris" in message["content"]) == ("assistant", True)
            assert answer["choices"][0]["finish_reason"] == "stop"
            again = (await neuron.chat("ggjt", QUESTION)).json()
            assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == again["usage"]["prompt_tokens"] - 1
            spm = {
                "model_id": "spm",
                "harness": "ctransformers",
                "chat_template": "chatml",
                "threads": 1,
                "context": 512,
            }
            assert (await neuron.load(spm)).status_code == 200
            assert "Paris" in (await neuron.chat("spm", QUESTION)).json()["choices"][0]["message"]["content"]

    asyncio.run(scenario())


def test_what_the_assistant_began_is_continued(legacy_dir):
    """In the words of every family the last message stays open; a template of one's own may trim it."""
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "The capital "}]
    trimming = "{% for m in messages %}[{{ m.content|trim }}]{% endfor %}{{ style }}"

    async def scenario():
        async with running_neuron(legacy_dir) as neuron:

            async def prompt(template, **more):
                settings = {"model_id": "gpt2", "threads": 1, "chat_template": template}
                assert (await neuron.load(settings)).status_code == 200
                body = {"model": "gpt2", "messages": talk, "max_tokens": 1, "temperature": 0, **more}
                shown = await neuron.http.post("/apply-template", json=body)
                counted = await neuron.http.post("/v1/chat/completions/input_tokens", json=body)
                answered = await neuron.http.post("/v1/chat/completions", json=body)
                await neuron.http.post("/models/unload", json={"model_id": "gpt2"})
                assert answered.json()["usage"]["prompt_tokens"] == counted.json()["input_tokens"]
                return shown.json()["prompt"]

            assert await prompt("chatml") == ("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nThe capital ")
            assert await prompt("vicuna") == "USER: hi ASSISTANT: The capital "
            assert await prompt("llama-2") == "[INST] hi [/INST] The capital "
            assert await prompt(trimming) == "[hi][The capital"
            answer = [{"role": "user", "content": "hi"}]
            own = {"style": "!", "messages": [], "bos_token": "mine"}
            assert await prompt(trimming, messages=answer, chat_template_kwargs=own) == "[hi]!"

    asyncio.run(scenario())


def test_a_chat_is_counted_as_it_would_be_read(legacy_dir):
    """`input_tokens` is the usage of the same chat; there is no reading such a file's vocabulary alone, and that is said."""

    async def scenario():
        async with running_neuron(legacy_dir) as neuron:
            await neuron.load({"model_id": "gpt2", "threads": 1, "chat_template": "chatml"})
            ask = {"model": "gpt2", "messages": [{"role": "user", "content": QUESTION}]}
            path = "/v1/chat/completions/input_tokens"
            warm = (await neuron.http.post(path, json=ask)).json()["input_tokens"]
            assert warm == (await neuron.chat("gpt2", QUESTION)).json()["usage"]["prompt_tokens"]
            await neuron.http.post("/models/unload", json={"model_id": "gpt2"})
            cold = await neuron.http.post(path, json=ask | {"load": {"chat_template": "chatml"}})
            assert (cold.status_code, "only while it is loaded" in cold.text) == (503, True)

    asyncio.run(scenario())


def test_a_stream_says_what_the_whole_answer_says(old_llama_dir):
    """Same text, finish reason, usage and log probabilities, for seeded answers of all kinds."""

    async def scenario():
        async with running_neuron(old_llama_dir) as neuron:
            await neuron.load(GGJT)
            for seed in range(6):
                body = {
                    "model": "ggjt",
                    "messages": [
                        {"role": "user", "content": f"Write about the number {seed} in French: café, 日本語."}
                    ],
                    "max_tokens": 24,
                    "temperature": 1.5,
                    "top_p": 0.9,
                    "seed": seed,
                    "logprobs": True,
                    "top_logprobs": 2,
                    "stop": ["\n\n", "é"],
                }
                whole = (await neuron.http.post("/v1/chat/completions", json=body)).json()
                asked = {**body, "stream_options": {"include_usage": True}}
                chunks, text = await _streamed(neuron, "/v1/chat/completions", asked)
                choice = whole["choices"][0]
                assert text == choice["message"]["content"]
                assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
                assert chunks[-2]["choices"][0]["finish_reason"] == choice["finish_reason"]
                assert chunks[-1]["choices"] == []
                for counted in ("prompt_tokens", "completion_tokens"):
                    assert chunks[-1]["usage"][counted] == whole["usage"][counted]
                told = [
                    token["bytes"]
                    for chunk in chunks[:-1]
                    for token in (chunk["choices"][0].get("logprobs") or {}).get("content", ())
                ]
                assert told == [token["bytes"] for token in choice["logprobs"]["content"]]

    asyncio.run(scenario())


def test_seeds_repeat(old_llama_dir):
    """The same seed gives the same answer, another seed another, and several answers of one request differ."""

    async def scenario():
        async with running_neuron(old_llama_dir) as neuron:
            await neuron.load(GGJT)

            async def tell(**more):
                answer = await _complete(neuron, "ggjt", "Once upon a time", temperature=1, max_tokens=12, **more)
                return [choice["text"] for choice in answer.json()["choices"]]

            assert await tell(seed=7) == await tell(seed=7) != await tell(seed=8)
            several = await tell(seed=7, n=3)
            assert len(set(several)) == 3
            assert several == await tell(seed=7, n=3)
            assert await tell(seed=-1) == await tell(seed=-1)

    asyncio.run(scenario())


def test_a_stop_string_is_found_across_tokens(legacy_dir):
    """The stop itself is not told, nothing after it comes, and its beginning is told when it turns out to be none."""

    async def scenario():
        async with running_neuron(legacy_dir) as neuron:
            await neuron.load({"model_id": "gptj", "threads": 1})
            for stop, text, finish in (
                ("nce is P", " Fra", "stop"),
                ([" is Rome", "s."], " France is Pari", "stop"),
                (" is Paris!", " France is Paris.", "stop"),
                ("never", " France is Paris.", "stop"),
            ):
                answer = (await _complete(neuron, "gptj", "The capital of", stop=stop)).json()["choices"][0]
                assert (answer["text"], answer["finish_reason"]) == (text, finish)
                body = {"model": "gptj", "prompt": "The capital of", "temperature": 0, "stop": stop}
                assert (await _streamed(neuron, "/v1/completions", body))[1] == text
            cut = (await _complete(neuron, "gptj", "The capital of", max_tokens=2)).json()
            assert (cut["choices"][0]["text"], cut["choices"][0]["finish_reason"]) == (" France is", "length")

    asyncio.run(scenario())


def test_a_client_that_leaves_frees_the_model(old_llama_dir):
    """Closing a stream ends its generation: the next request is answered by the same engine."""

    async def scenario():
        async with running_neuron(old_llama_dir) as neuron:
            await neuron.load({**GGJT, "context": 8192})
            pid = only_child()
            body = {
                "model": "ggjt",
                "prompt": "One, two, three",
                "stream": True,
                "max_tokens": 6000,
                "logit_bias": {"2": -100, "0": -100},
            }
            async with neuron.http.stream("POST", "/v1/completions", json=body) as stream:
                async for line in stream.aiter_lines():
                    if '"text"' in line:
                        break
            assert (await _complete(neuron, "ggjt", "The capital of France is", max_tokens=2)).status_code == 200
            assert (await neuron.get("/health"))["models"][0]["in_flight"] == 0
            assert only_child() == pid

    asyncio.run(scenario())


def test_what_the_engine_cannot_do_is_refused_by_name(legacy_dir):
    """Tools, schemas, grammars, images and embeddings are named; so is a chat with a file that has no template."""
    tool = {"type": "function", "function": {"name": "f"}}
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]

    async def scenario():
        async with running_neuron(legacy_dir) as neuron:
            await neuron.load({"model_id": "gpt2", "threads": 1})
            for field, value in (
                ("tools", [tool]),
                ("tool_choice", "required"),
                ("response_format", {"type": "json_object"}),
                ("grammar", "root ::= [a-z]"),
                ("json_schema", {"type": "object"}),
                ("n", 17),
                ("top_k", -2),
                ("min_p", 2),
                ("logit_bias", {"64": 1}),
            ):
                refused = await neuron.chat("gpt2", "hi", **{field: value})
                if field == "logit_bias":  # only the model knows its vocabulary
                    refused = await _complete(neuron, "gpt2", "hi", **{field: value})
                error = refused.json()["error"]
                assert (refused.status_code, error["param"], error["type"]) == (400, field, "invalid_request_error")
            seen = await neuron.http.post(
                "/v1/chat/completions", json={"model": "gpt2", "messages": [{"role": "user", "content": picture}]}
            )
            assert seen.json()["error"]["code"] == "vision_unsupported"
            embedded = await neuron.http.post("/v1/embeddings", json={"model": "gpt2", "input": "hi"})
            assert (embedded.status_code, embedded.json()["error"]["code"]) == (422, "wrong_modality")
            chat = await neuron.chat("gpt2", "hi")
            assert (chat.status_code, chat.json()["error"]["code"]) == (400, "no_chat_template")
            assert "vicuna" in chat.json()["error"]["message"]

    asyncio.run(scenario())


def test_settings_that_the_library_cannot_honour_are_refused(legacy_dir):
    """A context that the file does not have, slots, quantised caches, a template that is none: said at the load."""

    async def scenario():
        async with running_neuron(legacy_dir) as neuron:
            for setting, words in (
                ({"context": 4096}, "128 tokens"),
                ({"parallel": 4}, "parallel"),
                ({"kv_type": "q8_0"}, "kv_type"),
                ({"mode": "embedding"}, "embedding"),
            ):
                refused = await neuron.load({"model_id": "gpt2", "threads": 1, **setting})
                assert refused.status_code == 400, refused.text
                assert words in refused.json()["error"]["message"]
            refused = await neuron.load({"model_id": "gpt2", "threads": 1, "chat_template": "chatlm"})
            assert refused.status_code == 422
            assert "known are chatml" in refused.json()["error"]["message"]

    asyncio.run(scenario())


def test_an_engine_that_dies_comes_back(legacy_dir):
    """The slot recovers as with every other engine."""

    async def scenario():
        async with running_neuron(legacy_dir) as neuron:
            await neuron.load({"model_id": "gpt2", "threads": 1})
            first = only_child()
            os.kill(first, signal.SIGSEGV)
            await until(lambda: first not in children())
            answer = await _complete(neuron, "gpt2", PROMPT)
            assert answer.json()["choices"][0]["text"] == ANSWER
            assert only_child() != first

    asyncio.run(scenario())

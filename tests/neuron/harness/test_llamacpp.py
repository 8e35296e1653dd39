"""The llama.cpp harness: files, capabilities, and its server's errors as a client expects them."""

import asyncio
import subprocess
import sys
from dataclasses import replace

import orjson
import pytest
from helpers.engines import ask, engine_spec, running_engine, says

from cortex.errors import CortexError
from cortex.neuron.gguf import Split
from cortex.neuron.harness import choice
from cortex.neuron.harness.llamacpp import LlamaCpp

harness = LlamaCpp()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, None),
        ({"architecture": "clip"}, "projector"),
        ({"kind": "adapter"}, "adapter"),
        ({"kind": "imatrix"}, "imatrix"),
        ({"split": Split(0, 3)}, None),
        ({"split": Split(1, 3)}, "part 2 of 3"),
        ({"tensor_count": 0}, "no weights"),
    ],
)
def test_which_files_it_serves(changes, word, header):
    """What is no model is refused with a sentence that says what it is."""
    reason = harness.cannot_serve(replace(header, **changes))
    assert (reason is None) if word is None else (word in (reason or ""))


@pytest.mark.parametrize(
    ("mode", "vision", "template", "capabilities"),
    [
        ("chat", False, None, ("chat", "completions")),
        ("chat", False, "{% if tools %}", ("chat", "completions", "tools")),
        ("chat", True, None, ("chat", "completions", "vision")),
        ("embedding", False, "{% if tools %}", ("embeddings",)),
        ("rerank", False, None, ("rerank",)),
    ],
)
def test_capabilities(mode, vision, template, capabilities, header):
    """What a client may ask for follows from mode, template and projector."""
    assert harness.capabilities(replace(header, chat_template=template), mode, vision=vision) == capabilities


@pytest.mark.parametrize("asked", ["auto", "candle", "llamacpp"])
def test_the_harness_is_chosen(asked, header):
    """By name, or the first that serves the file; "candle" is what old clients send."""
    assert choice.choose(asked, header, choice.available()).name == "llamacpp"


def test_an_unknown_harness_lists_the_known(header):
    """A typo is answered with what there is."""
    with pytest.raises(CortexError, match="llamacpp") as refused:
        choice.choose("vllm", header, choice.available())
    assert (refused.value.status, refused.value.code) == (400, "unknown_harness")


def test_a_file_that_is_no_model_is_refused_with_the_reason_once(header):
    """Before any memory is taken, and not once more for each harness."""
    projector = replace(header, architecture="clip")
    with pytest.raises(CortexError, match="cannot be served: it is the projector") as refused:
        choice.choose("auto", projector, choice.available())
    assert (refused.value.status, refused.value.code) == (422, "unsupported_model")
    assert choice.why("auto", projector, choice.available()).count("projector") == 1


def test_the_library_stays_out_of_the_neuron():
    """The harness tells its version without loading the library."""
    code = (
        "import sys; from cortex.neuron.harness.choice import available;"
        "print(available()['llamacpp'].version(), 'xllamacpp' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, imported = done.stdout.split()
    assert version[0].isdigit()
    assert imported == "False"


def engine_says(status: int, message: str, **fields) -> CortexError:
    return harness.engine_error(status, orjson.dumps({"error": {"code": status, "message": message, **fields}}))


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, "Field 'n': [json.exception.type_error.302] type must be number, but is string", (400, None, "n")),
        (400, '"prompt" must not be empty', (400, None, None)),
        (500, "Failed to parse tools: Missing tool type: 1", (400, None, "tools")),
        (500, "Failed to parse messages: Missing 'role' in message: {}", (400, None, "messages")),
        (
            500,
            "Failed to parse tool call arguments as JSON: [json.exception.parse_error.101] parse error at line 1",
            (400, None, "messages"),
        ),
        (
            500,
            "image input is not supported - hint: you may need to provide the mmproj",
            (400, "vision_unsupported", "messages"),
        ),
        (
            400,
            "While executing CallExpression\nError: Jinja Exception: no tools",
            (422, "template_render_failed", "messages"),
        ),
        (
            501,
            "This server does not support embeddings. Start it with `--embeddings`",
            (422, "wrong_modality", "model"),
        ),
        (501, "no such thing", (400, "unsupported_parameter", None)),
        (503, "Loading model", (503, "service_unavailable", None)),
        (404, "File Not Found", (404, "not_found", None)),
        (500, "Compute error.", (502, "engine_failed", None)),
    ],
)
def test_errors_of_the_engine(status, message, expected):
    """The caller's mistakes are 4xx with the field, the engine's own are 502, what passes is 503; codes are words."""
    error = engine_says(status, message)
    assert (error.status, error.code, error.param) == expected
    assert "json.exception" not in error.message


def test_an_overflow_has_its_numbers():
    """Clients tell an overflow by its code and read the numbers."""
    error = engine_says(400, "exceeds", type="exceed_context_size_error", n_prompt_tokens=6014, n_ctx=4096)
    assert (error.status, error.code, error.extras) == (
        400,
        "context_length_exceeded",
        {"max": 4096, "prompt_len": 6014},
    )
    error = engine_says(
        500, "input (3001 tokens) is too large to process. increase the physical batch size (current batch size: 2048)"
    )
    assert (error.status, error.extras) == (400, {"max": 2048, "prompt_len": 3001})


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "text"}', b"\xff"])
def test_an_answer_without_reason(body):
    """Nonsense from an engine is a 502, not an exception of ours."""
    error = harness.engine_error(500, body)
    assert (error.status, error.retry_after) == (502, 2)


@pytest.mark.model
def test_the_real_engine_s_errors(scripted_model, tmp_path):
    """What the library of today really says is understood: overflow, images, templates, sampling, and another mode's routes."""
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]
    template = "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}{{ m.content }}{% endfor %}"
    chat = "/v1/chat/completions"
    cut = {"type": "function", "function": {"name": "f", "arguments": '{"city": "Pa'}}
    cases = [
        (chat, {"messages": [{"role": "assistant", "tool_calls": [cut]}], "max_tokens": 4}, (400, None)),
        (chat, says("x " * 4000), (400, "context_length_exceeded")),
        (chat, {"messages": image, "max_tokens": 4}, (400, "vision_unsupported")),
        (chat, says("hi", n="x"), (400, None)),
        (chat, says("hi", grammar="root ::= ("), (400, None)),
        (chat, {"messages": [{"role": "tool", "content": "x"}], "max_tokens": 4}, (422, "template_render_failed")),
        ("/v1/embeddings", {"input": "x"}, (422, "wrong_modality")),
        ("/v1/rerank", {"query": "x", "documents": ["x"]}, (422, "wrong_modality")),
    ]

    async def scenario():
        async with running_engine(engine_spec(scripted_model, tmp_path, chat_template=template)) as engine:
            for path, body, expected in cases:
                status, answer = await ask(engine, path, body)
                error = harness.engine_error(status, orjson.dumps(answer))
                assert (error.status, error.code) == expected, answer

    asyncio.run(scenario())


@pytest.mark.model
def test_an_answer_without_a_bound_ends(scripted_model, tmp_path):
    """A model that never stops is stopped at the engine's bound when the request names none, or says null or -1; a named bound counts."""

    async def scenario():
        async with running_engine(engine_spec(scripted_model, tmp_path, max_output_tokens=50)) as engine:
            for bound, tokens in ((None, 50), (-1, 50), (70, 70)):
                _, answer = await ask(engine, "/v1/chat/completions", {**says("[[loop]]"), "max_tokens": bound})
                assert answer["usage"]["completion_tokens"] == tokens
                assert answer["choices"][0]["finish_reason"] == "length"
            both = {**says("[[loop]]"), "max_tokens": 5, "max_completion_tokens": 9}
            assert (await ask(engine, "/v1/chat/completions", both))[1]["usage"]["completion_tokens"] == 9

    asyncio.run(scenario())


@pytest.mark.model
def test_vectors_do_not_depend_on_their_neighbours(demo_model, tmp_path):
    """A text's vector is the same in a batch and alone, which it is not when llama.cpp computes several at once."""
    texts = ["The cat sat on the mat.", "Paris is the capital of France", "x"]

    async def scenario():
        spec = engine_spec(demo_model, tmp_path, mode="embedding", pooling="mean", parallel=1, context=512, batch=512)
        async with running_engine(spec) as engine:
            _, together = await ask(engine, "/v1/embeddings", {"input": texts})
            for text, vector in zip(texts, together["data"], strict=True):
                _, alone = await ask(engine, "/v1/embeddings", {"input": text})
                assert alone["data"][0]["embedding"] == vector["embedding"]

    asyncio.run(scenario())

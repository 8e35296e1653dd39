"""What the ctransformers harness takes, with which settings, and what it refuses; pure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.gguf import Header
from cortex.neuron.harness import choice
from cortex.neuron.harness.base import Harness, HostShare, ModelFiles
from cortex.neuron.harness.ctransformers import CTransformers
from cortex.neuron.harness.llamacpp import LlamaCpp
from cortex.wire.errors import openai_body
from cortex.wire.fleet import LoadSettings

HARNESSES: dict[str, Harness] = {"llamacpp": LlamaCpp(), "ctransformers": CTransformers()}


@pytest.fixture
def legacy(header: Header) -> Header:
    """A legacy gpt2 of 124 million parameters."""
    sizes: dict[str, Any] = {
        "embedding_length": 768,
        "head_count": 12,
        "head_count_kv": 12,
        "block_count": 12,
        "vocab_size": 50257,
    }
    return replace(header, container="ggml", architecture="gpt2", context_length=1024, chat_template=None, **sizes)


@pytest.fixture
def spm(header: Header) -> Header:
    return replace(header, tokenizer_model="llama")


def spec_of(header: Header, host: HostShare | None = None, **settings: Any) -> EngineSpec:
    return CTransformers().engine_spec(
        alias="m",
        files=ModelFiles(Path("/m.bin")),
        header=header,
        settings=LoadSettings(**settings),
        host=host or HostShare(cores=4),
        socket_path=Path("/e.sock"),
    )


def test_auto_gives_each_file_to_who_can_read_it(header: Header, legacy: Header, spm: Header) -> None:
    """Legacy files go to ctransformers, all GGUF to llama.cpp; by name also a SentencePiece llama goes to ctransformers."""
    assert choice.choose("auto", legacy, HARNESSES).name == "ctransformers"
    assert choice.choose("candle", header, HARNESSES).name == "llamacpp"
    assert choice.choose("auto", spm, HARNESSES).name == "llamacpp"
    assert choice.choose("ctransformers", spm, HARNESSES).name == "ctransformers"


@pytest.mark.parametrize(
    ("asked", "change", "words"),
    [
        ("llamacpp", {"container": "ggjt"}, "before GGUF (ggjt)"),
        ("ctransformers", {}, "SentencePiece"),
        ("ctransformers", {"architecture": "qwen3"}, "'qwen3'"),
        ("ctransformers", {"kind": "adapter"}, "adapter (LoRA)"),
    ],
)
def test_the_wrong_harness_by_name_is_a_422_with_the_reason(
    header: Header, asked: str, change: dict[str, Any], words: str
) -> None:
    """Before any memory is taken."""
    with pytest.raises(CortexError) as caught:
        choice.choose(asked, replace(header, **change), HARNESSES)
    assert (caught.value.status, words in caught.value.message) == (422, True)


def test_an_engine_gets_what_the_library_has_room_for(legacy: Header) -> None:
    """Its own context, a batch that fits the work buffers, all cores but one, caches as that family keeps them."""
    spec = spec_of(legacy)
    assert (spec.context, spec.batch, spec.parallel, spec.threads, spec.kv_type) == (1024, 64, 1, 3, "f32")
    assert spec.extras["work_mb"] <= 256
    assert spec_of(replace(legacy, block_count=36, embedding_length=1280, head_count=20)).batch < 64
    assert spec_of(legacy, HostShare(cores=4, fitting_context=512)).context == 512
    assert spec_of(legacy, context=256).context == 256
    assert spec_of(legacy, threads=1000).threads == 4
    assert spec_of(replace(legacy, architecture="llama", container="ggjt", context_length=None)).context == 2048


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("context", 2048),
        ("parallel", 2),
        ("draft", "other"),
        ("mmproj", "eyes.gguf"),
        ("kv_type", "q8_0"),
        ("flash_attention", "on"),
        ("mode", "rerank"),
        ("pooling", "mean"),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_named(legacy: Header, field: str, value: Any) -> None:
    """400 with the field, not a model that runs otherwise than asked."""
    with pytest.raises(CortexError) as caught:
        spec_of(legacy, **{field: value})
    assert (caught.value.status, caught.value.param) == (400, field)


CHAT = {"messages": [{"role": "user", "content": "hi"}]}


def _parts(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {**CHAT, "tools": [], "tool_choice": "auto", "response_format": {"type": "text"}}),
        (
            "/v1/chat/completions",
            {**CHAT, "n": 16, "top_k": -1, "min_p": 0.05, "repetition_penalty": 1.1, "stream": True},
        ),
        ("/v1/completions", {"prompt": "x", "logprobs": 0, "echo": False, "best_of": 1}),
        ("/v1/completions", {"prompt": "x", "typical_p": 1.0, "mirostat": 0, "dry_multiplier": 0, "ignore_eos": False}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}),
        ("/v1/chat/completions", {"messages": [*CHAT["messages"], {"role": "assistant", "content": None}]}),
    ],
)
def test_a_good_request_passes_as_it_is(spec: EngineSpec, path: str, body: dict[str, object]) -> None:
    """The very same object, and nothing between the engine's answer and the client."""
    prepared = CTransformers().prepare(path, body, spec)
    assert prepared.body is body
    assert prepared.translation is None


@pytest.mark.parametrize(
    ("path", "change", "param"),
    [
        ("chat/completions", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ("chat/completions", {"response_format": {"type": "json_schema"}}, "response_format"),
        ("chat/completions", {"messages": [{"role": "tool", "content": "1"}]}, "messages[0]"),
        ("chat/completions", {"top_logprobs": 2}, "top_logprobs"),
        ("chat/completions", {"messages": []}, "messages"),
        ("chat/completions", {"messages": [{"role": "user"}]}, "messages[0].content"),
        ("chat/completions", {"messages": [{"role": "assistant", "content": "a"}] * 2}, "messages"),
        ("chat/completions", _parts({"type": "text", "text": 5}), "messages[0].content[0]"),
        ("chat/completions", _parts({"type": "text", "text": "a"}, {"type": "text"}), "messages[0].content[1]"),
        ("chat/completions", _parts({"type": "file", "file": {}}), "messages[0].content[0]"),
        ("chat/completions", {"json_schema": {}}, "json_schema"),
        ("chat/completions", {"ignore_eos": True}, "ignore_eos"),
        ("completions", {"prompt": "x", "typical_p": 0.5}, "typical_p"),
        ("completions", {"prompt": "x", "mirostat": 2}, "mirostat"),
        ("completions", {"prompt": "x", "n_probs": 3}, "n_probs"),
        ("chat/completions", {"temperature": "hot"}, "temperature"),
        ("chat/completions", {"modalities": ["audio"]}, "modalities"),
        ("completions", {"prompt": "x", "grammar": "root ::= x"}, "grammar"),
        ("completions", {"prompt": "x", "suffix": "y"}, "suffix"),
        ("completions", {"prompt": "x", "echo": True}, "echo"),
        ("completions", {"prompt": "x", "logprobs": 21}, "logprobs"),
        ("completions", {"prompt": 7}, "prompt"),
    ],
)
def test_what_the_engine_cannot_do_is_a_400_with_the_field(
    spec: EngineSpec, path: str, change: dict[str, object], param: str
) -> None:
    """At the neuron, before a place in the queue is taken."""
    body = (CHAT if path.startswith("chat") else {}) | change
    with pytest.raises(CortexError) as caught:
        CTransformers().prepare(f"/v1/{path}", body, spec)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_the_engine_s_errors_are_the_client_s() -> None:
    """Code, field and numbers survive; a failure of its own and nonsense are 502."""
    said = errors.context_length_exceeded(700, 512)
    heard = CTransformers().engine_error(400, json.dumps(openai_body(said)).encode())
    assert (heard.status, heard.code, heard.param, heard.message) == (400, said.code, said.param, said.message)
    assert heard.extras == said.extras
    assert CTransformers().engine_error(500, json.dumps(openai_body(errors.internal())).encode()).status == 502
    for nonsense in (b"", b"[]", b'{"error": "x"}', b"<html>"):
        assert CTransformers().engine_error(400, nonsense).status == 502

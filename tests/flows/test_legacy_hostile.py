"""Prompts and files that end the library's process where nobody checks them: each is answered, or refused with a typed error."""

import asyncio
import shutil
from pathlib import Path

import pytest
from helpers.legacy_ggml import PROMPT, legacy_bytes
from helpers.live import running_neuron
from helpers.processes import children, only_child
from helpers.tiny_spm import shapes, tiny_spm

pytestmark = pytest.mark.model

HOSTILE = {
    "emoji": "😀" * 2000,
    "chinese": "漢字假名" * 75,
    "nul": "a\0b\0\0",
    "long word": "x" * 40_000,
    "long digits": "7" * 40_000,
    "spaces": " " * 20_000,
    "controls": "".join(map(chr, range(32))) + "\x7f\x80\xff",
    "markers": "<|im_start|>system\n</s><s><|endoftext|>" * 20,
    "private": "\U000f0000\U000f0001\ufffe\uffff",
    "combining": "e\u0301" * 3000,
    "empty": "",
}


async def _complete(neuron, model, prompt, **more):
    body = {"model": model, "prompt": prompt, "max_tokens": 4, "temperature": 0, **more}
    return await neuron.http.post("/v1/completions", json=body)


@pytest.mark.parametrize("model", ["gpt2", "replit", "falcon", "mpt", "ggjt", "spm"])
def test_no_prompt_ends_an_engine(legacy_dir, old_llama_dir, model):
    """Each prompt is answered or refused with a 4xx that says why, and the engine is still the same process."""
    folder = legacy_dir if (legacy_dir / f"{model}.bin").exists() else old_llama_dir

    async def scenario():
        async with running_neuron(folder) as neuron:
            settings = {"context": 512} if folder is old_llama_dir else {}
            loaded = await neuron.load({"model_id": model, "harness": "ctransformers", "threads": 1, **settings})
            assert loaded.status_code == 200, loaded.text
            pid = only_child()
            for name, prompt in HOSTILE.items():
                answer = await _complete(neuron, model, prompt)
                assert answer.status_code in (200, 400), (name, answer.text)
                if answer.status_code == 400:
                    assert answer.json()["error"]["code"] == "context_length_exceeded", (name, answer.text)
            bad: object
            for bad in ([10**9], [-1], [2**40], [[0], [10**6]], [0, "a", None], [[[]]]):
                refused = await _complete(neuron, model, bad)
                assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prompt"), bad
            for extreme in (
                {"top_k": 2**31 - 1, "temperature": 2},
                {"top_k": 1, "temperature": 2},
                {"top_p": 0, "temperature": 1},
                {"min_p": 1, "temperature": 1},
                {"temperature": 1e-9},
                {"seed": 2**63 - 1, "temperature": 1},
                {"seed": -(2**63), "temperature": 1},
                {"repetition_penalty": 10},
                {"frequency_penalty": -2, "presence_penalty": 2, "logit_bias": {"0": 1e308}},
                {"logprobs": 20},
                {"n": 4, "max_tokens": 1},
                {"prompt": [PROMPT, [0, 1], PROMPT]},
            ):
                answer = await _complete(neuron, model, **{"prompt": PROMPT, **extreme})
                assert answer.status_code == 200, (extreme, answer.text)
            both = await asyncio.gather(*(_complete(neuron, model, PROMPT) for _ in range(4)))
            assert len({answer.json()["choices"][0]["text"] for answer in both}) == 1
            assert children() == {pid}

    asyncio.run(scenario())


def test_a_prompt_of_the_whole_context_is_refused_and_one_below_is_answered(legacy_dir):
    """The last token of room is used; what does not fit is `context_length_exceeded` with the numbers."""

    async def scenario():
        async with running_neuron(legacy_dir) as neuron:
            await neuron.load({"model_id": "gpt2", "threads": 1})
            full = await _complete(neuron, "gpt2", [20] * 128)
            error = full.json()["error"]
            assert (full.status_code, error["code"], error["prompt_len"], error["max"]) == (
                400,
                "context_length_exceeded",
                128,
                128,
            )
            most = await _complete(neuron, "gpt2", [1] * 127, max_tokens=50, logit_bias={"0": -100, "15": -100})
            assert (most.json()["usage"]["completion_tokens"], most.json()["choices"][0]["finish_reason"]) == (
                1,
                "length",
            )

    asyncio.run(scenario())


@pytest.mark.parametrize("chat", [False, True], ids=["completion", "chat"])
def test_a_prompt_of_many_megabytes_is_refused_before_it_is_split(legacy_dir, chat):
    """Splitting takes time and memory for each of its characters: what cannot fit is counted by its bytes."""
    text = "hello " * (4 << 20)

    async def scenario():
        async with running_neuron(legacy_dir) as neuron:
            await neuron.load({"model_id": "replit", "threads": 1, "chat_template": "vicuna"})
            pid = only_child()
            refused = await (neuron.chat("replit", text) if chat else _complete(neuron, "replit", text))
            error = refused.json()["error"]
            assert (refused.status_code, error["code"], error["max"]) == (400, "context_length_exceeded", 128)
            shown = await neuron.http.post("/tokenize", json={"model": "replit", "content": text})
            assert (shown.status_code, shown.json()["error"]["code"]) == (413, "body_too_large")
            assert _most_memory_mb(pid) < 1024
            assert only_child() == pid

    asyncio.run(scenario())


def _most_memory_mb(pid):
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def _broken(legacy_dir):
    """Files that are wrong, by name."""
    gpt2, falcon = legacy_bytes("gpt2"), (legacy_dir / "falcon.bin").read_bytes()
    whole = tiny_spm()
    yield from ((f"gpt2-cut-{at}.bin", gpt2[:at]) for at in (4, 60, 600, 2000, len(gpt2) // 2, len(gpt2) - 1))
    yield from ((f"falcon-cut-{at}.bin", falcon[:at]) for at in (4, 60, 4000, len(falcon) - 1))
    yield from ((f"spm-cut-{at}.gguf", whole[:at]) for at in (4, 24, 3000, len(whole) - 1))
    yield "llama-ggml.bin", b"lmgg" + (32000).to_bytes(4, "little") * 8
    yield "falcon-old.bin", b"ccgg" + (9).to_bytes(4, "little") + falcon[8:]
    yield "ggjt-9.bin", b"tjgg" + (9).to_bytes(4, "little") * 9
    yield "zeros.gguf", bytes(4096)
    yield "page.gguf", b"<!DOCTYPE html><html>"
    yield "pointer.gguf", b"version https://git-lfs.github.com/spec/v1\n"
    yield "empty.gguf", b""
    # sound to llama.cpp's reader of headers, and nothing for the library of 2023
    without = {name: shape for name, shape in shapes().items() if name != "output.weight"}
    yield "tied.gguf", tiny_spm(without)
    yield "biased.gguf", tiny_spm({**shapes(), "blk.0.attn_q.bias": (64,)})
    yield "iq.gguf", tiny_spm(types={"output.weight": 20})
    yield "scaled.gguf", tiny_spm(llama__rope__scaling__type="yarn")
    yield "rotated.gguf", tiny_spm(llama__rope__dimension_count=8)
    yield "bos.gguf", tiny_spm(tokenizer__ggml__bos_token_id=100_000)
    yield "no-bytes.gguf", tiny_spm(tokenizer__ggml__tokens=[f"word{number}" for number in range(269)])


def test_no_file_ends_a_neuron_or_an_engine_that_a_check_could_have_saved(legacy_dir, tmp_path):
    """Every broken file is a problem of the scan or a refused load with its reason; what is sound beside it is served."""
    for name, content in _broken(legacy_dir):
        (tmp_path / name).write_bytes(content)
    shutil.copy(legacy_dir / "gpt2.bin", tmp_path / "sound.bin")

    async def scenario():
        async with running_neuron(tmp_path) as neuron:
            for name, _ in _broken(legacy_dir):
                model = name.rpartition(".")[0]
                refused = await neuron.load({"model_id": model, "harness": "ctransformers", "threads": 1})
                error = refused.json()["error"]
                assert refused.status_code in (404, 422), (name, refused.text)
                assert error["code"] in ("model_not_found", "unsupported_model"), (name, refused.text)
                assert "signal" not in error["message"], (name, refused.text)
            assert not children()
            assert (await neuron.load({"model_id": "sound", "threads": 1})).status_code == 200
            assert (await _complete(neuron, "sound", PROMPT)).json()["choices"][0]["text"] == " Paris."

    asyncio.run(scenario())

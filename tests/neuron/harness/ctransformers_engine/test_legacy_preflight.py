"""What would end the process is refused before the library sees the file; what is refused is named."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.gguf_bytes import U64, gguf, pair
from helpers.legacy_falcon import falcon_bytes
from helpers.legacy_ggml import FAMILIES, legacy_bytes
from helpers.tiny_spm import facts, shapes, tiny_spm, vocabulary

from cortex.neuron.gguf import GGUFError
from cortex.neuron.harness.ctransformers_engine.model import ModelRefused, inspect

TOKENS = [token for token, _ in vocabulary()]
KINDS = [kind for _, kind in vocabulary()]
WITHOUT_OUTPUT = {name: shape for name, shape in shapes().items() if name != "output.weight"}

REFUSED = {
    "another architecture": (tiny_spm(general__architecture="qwen2"), "only whole llama models"),
    "a BPE vocabulary": (tiny_spm(tokenizer__ggml__model="gpt2"), "SentencePiece"),
    "a tied output": (tiny_spm(WITHOUT_OUTPUT), "output.weight"),
    "a tensor missing": (
        tiny_spm({n: s for n, s in shapes().items() if n != "blk.0.attn_k.weight"}),
        "1 tensors are missing",
    ),
    "a bias": (tiny_spm({**shapes(), "blk.0.attn_q.bias": (64,)}), "did not have, the first is 'blk.0.attn_q.bias'"),
    "another shape": (tiny_spm({**shapes(), "output_norm.weight": (32,)}), "'output_norm.weight' has shape (32,)"),
    "a type of later": (tiny_spm(types={"output.weight": 20}), "type 20"),
    "rows that are no blocks": (tiny_spm(types={"output.weight": 10}), "stores blocks of 256"),
    "a quantised norm": (tiny_spm(types={"output_norm.weight": 8}), "type 8"),
    "fewer scores": (tiny_spm(tokenizer__ggml__scores=[0.0, 0.0]), "2 scores"),
    "scores of another kind": (tiny_spm(tokenizer__ggml__scores=[0 for _ in TOKENS]), "numbers of another kind"),
    "a byte without a token": (
        tiny_spm(tokenizer__ggml__tokens=[b"hm" if token == b"<0x09>" else token for token in TOKENS]),
        "0x09",
    ),
    "a byte that is none": (
        tiny_spm(
            tokenizer__ggml__token_type=[6 if token == "\u2581a".encode() else kind for token, kind in vocabulary()]
        ),
        "is said to be a byte",
    ),
    "an end outside": (tiny_spm(tokenizer__ggml__eos_token_id=len(TOKENS)), "eos token"),
    "scaled rotation": (tiny_spm(llama__rope__scaling__type="linear"), "rope scaling"),
    "rotation of a part": (tiny_spm(llama__rope__dimension_count=8), "rotates 8 of each head's 16"),
    "heads that do not divide": (tiny_spm(llama__attention__head_count_kv=3), "cannot be shared out"),
    "no heads": (tiny_spm(llama__attention__head_count=0), "head_count is 0"),
    "experts": (tiny_spm(llama__expert_count=8), "mixture of experts"),
    "half a gpt2": (legacy_bytes("gpt2")[:100_000], "ends inside"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_library_cannot_take_is_refused_by_name(tmp_path: Path, case: str) -> None:
    """One sentence that says what is wrong."""
    content, words = REFUSED[case]
    file = tmp_path / ("model.bin" if content[:4] == b"lmgg" else "model.gguf")
    file.write_bytes(content)
    with pytest.raises((ModelRefused, GGUFError)) as caught:
        inspect(file)
    assert words in str(caught.value)


def test_a_sound_file_passes(tmp_path: Path) -> None:
    """Its markers, its ends, its spaces; a quantised matrix is as good as a whole one."""
    file = tmp_path / "model.gguf"
    file.write_bytes(tiny_spm(types={"output.weight": 8}))
    words = inspect(file).vocabulary
    assert (words.bos, words.eos, words.ends, words.spaces) == (1, 2, frozenset({2}), "marker")
    assert words.markers == {"<s>": 1, "</s>": 2}
    assert (words.pieces[2], words.pieces[3 + 0xE9], words.pieces[-7]) == (b"", b"\xe9", b" a")
    assert len(words.pieces) == len(KINDS)


def test_a_key_of_another_width_is_refused(tmp_path: Path) -> None:
    """The library reads 32 bits wherever it looks."""
    known = facts()
    known["llama.context_length"] = (256, U64)
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf([pair(key, value, kind) for key, (value, kind) in known.items()]))
    with pytest.raises(ModelRefused, match="32-bit"):
        inspect(file)


# Loads each file that passes the preflight and answers a prompt, in a child of its own: says how the child ended.
_LOADER = """
import os, sys
from pathlib import Path
from cortex.neuron.gguf import GGUFError
from cortex.neuron.harness.base import HostShare, ModelFiles
from cortex.neuron.harness.ctransformers import CTransformers
from cortex.neuron.harness.ctransformers_engine.answers import Counts
from cortex.neuron.harness.ctransformers_engine.engine import Engine
from cortex.neuron.harness.ctransformers_engine.model import ModelRefused, inspect, load
from cortex.neuron.harness.ctransformers_engine.sandbox import Sandbox
from cortex.neuron.modelfile import read_model_header
from cortex.wire.fleet import LoadSettings

def answer(file):
    model, header = inspect(file), read_model_header(file)
    spec = CTransformers().engine_spec(alias="m", files=ModelFiles(file), header=header, settings=LoadSettings(threads=1),
                                       host=HostShare(1), socket_path=Path("/e.sock"))
    engine = Engine(spec, model, load(spec, model), sandbox)
    body = {"prompt": "The capital of France is \\U0001f600 ab", "max_tokens": 3, "temperature": 0}
    list(engine.answer(body, Counts(), lambda: False))

sandbox = Sandbox()
for name in sys.stdin.read().split():
    if (child := os.fork()) == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            answer(Path(name))
        except (GGUFError, ModelRefused):
            os._exit(10)
        os._exit(0)
    print(os.waitpid(child, 0)[1], name, flush=True)
"""


@pytest.mark.model
def test_a_mutant_is_refused_or_answers_and_never_crashes(tmp_path: Path) -> None:
    """Three hundred seeded mutations of real files, those that pass loaded by the real library: no signal, no other end."""
    dice = random.Random(2023)
    sources = [legacy_bytes(family) for family in FAMILIES] + [falcon_bytes(), tiny_spm()]
    for number in range(300):
        content = bytearray(dice.choice(sources))
        for _ in range(dice.choice((1, 1, 2))):
            at = dice.randrange(min(len(content), 4000))
            change = dice.choice(
                (b"", bytes([dice.randrange(256)]), dice.randbytes(4), (dice.randrange(200)).to_bytes(4, "little"))
            )
            content[at : at + max(1, len(change))] = change
        suffix = "gguf" if content[:1] == b"G" else "bin"
        (tmp_path / f"{number}.{suffix}").write_bytes(content)
    names = "\n".join(str(file) for file in sorted(tmp_path.iterdir()))
    done = subprocess.run(
        [sys.executable, "-c", _LOADER], input=names, capture_output=True, text=True, timeout=110, check=True
    )
    ends = [line.split()[0] for line in done.stdout.splitlines()]
    assert len(ends) == 300
    refused = os.waitstatus_to_exitcode(10 << 8)
    assert {os.waitstatus_to_exitcode(int(status)) for status in ends} == {0, refused}

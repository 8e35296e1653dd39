"""Tiny models in the formats of before GGUF, one for each family that has the magic "ggml".

Nothing is trained: the residual stream walks a fixed chain of tokens, so that the greedy answer is known:
"The capital of France is" → " Paris." and the end of the text. 0.2 to 0.3 MB each.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Tensors = list[tuple[str, Array]]

PROMPT, ANSWER = "The capital of France is", " Paris."
CHAIN = ("The", " capital", " of", " France", " is", " Paris", ".", "<|endoftext|>")
WIDTH, VOCAB, HEADS, CONTEXT, HIDDEN = 64, 64, 4, 128, 256
_MORE = ("!", "?", " ", "\n", "a", "b", "c", "<|end|>", "<|user|>", "<|assistant|>", "hello", " world", "é", "日", "😀")
_MARK = {"starcoder": "<fim-prefix>", "dolly-v2": "### End"}  # what only these vocabularies have


def words(family: str) -> list[str]:
    """The vocabulary: the chain with its end first, a few more words, and fillers."""
    known = [CHAIN[-1], *CHAIN[:-1], *_MORE, _MARK.get(family, "x")]
    return known + [f"tok{number}" for number in range(VOCAB - len(known))]


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


def ones(size: int) -> Array:
    return np.ones(size, np.float32)


def _embedding() -> Array:
    return np.eye(VOCAB, WIDTH, dtype=np.float32)


def _up() -> Array:
    weights = zeros(HIDDEN, WIDTH)
    weights[:WIDTH] = np.eye(WIDTH)
    return weights


def _down(family: str) -> Array:
    """From each token to its successor; everything outside the chain leads to the end of the text."""
    vocabulary = words(family)
    number = {word: place for place, word in enumerate(vocabulary)}
    after = {number[one]: number[next_] for one, next_ in itertools.pairwise(CHAIN)}
    weights = zeros(WIDTH, HIDDEN)
    for place in range(VOCAB):
        weights[after.get(place, 0), place] = 5.0
    return weights


def _gpt2(family: str) -> Tensors:
    layer = "model/h0"
    tensors = [
        ("model/ln_f/g", ones(WIDTH)),
        ("model/ln_f/b", zeros(WIDTH)),
        ("model/wte", _embedding()),
        ("model/wpe", zeros(CONTEXT, WIDTH)),
        ("model/lm_head", _embedding()),
        (f"{layer}/attn/c_attn/w", zeros(3 * WIDTH, WIDTH)),
        (f"{layer}/attn/c_attn/b", zeros(3 * WIDTH)),
        (f"{layer}/attn/c_proj/w", zeros(WIDTH, WIDTH)),
        (f"{layer}/attn/c_proj/b", zeros(WIDTH)),
        (f"{layer}/mlp/c_fc/w", _up()),
        (f"{layer}/mlp/c_fc/b", zeros(HIDDEN)),
        (f"{layer}/mlp/c_proj/w", _down(family)),
        (f"{layer}/mlp/c_proj/b", zeros(WIDTH)),
    ]
    return tensors + [(f"{layer}/{norm}/{part}", value) for norm in ("ln_1", "ln_2") for part, value in _norm("g", "b")]


def _gptj(family: str) -> Tensors:
    layer = "transformer.h.0"
    return [
        ("transformer.wte.weight", _embedding()),
        *((f"transformer.ln_f.{part}", value) for part, value in _norm("weight", "bias")),
        ("lm_head.weight", _embedding()),
        ("lm_head.bias", zeros(VOCAB)),
        *((f"{layer}.ln_1.{part}", value) for part, value in _norm("weight", "bias")),
        *((f"{layer}.attn.{kind}_proj.weight", zeros(WIDTH, WIDTH)) for kind in ("q", "k", "v", "out")),
        (f"{layer}.mlp.fc_in.weight", _up()),
        (f"{layer}.mlp.fc_in.bias", zeros(HIDDEN)),
        (f"{layer}.mlp.fc_out.weight", _down(family)),
        (f"{layer}.mlp.fc_out.bias", zeros(WIDTH)),
    ]


def _neox(family: str) -> Tensors:
    layer = "gpt_neox.layers.0"
    norms = ("gpt_neox.final_layer_norm", f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm")
    return [
        ("gpt_neox.embed_in.weight", _embedding()),
        ("embed_out.weight", _embedding()),
        *((f"{norm}.{part}", value) for norm in norms for part, value in _norm("weight", "bias")),
        (f"{layer}.attention.query_key_value.weight", zeros(3 * WIDTH, WIDTH)),
        (f"{layer}.attention.query_key_value.bias", zeros(3 * WIDTH)),
        (f"{layer}.attention.dense.weight", zeros(WIDTH, WIDTH)),
        (f"{layer}.attention.dense.bias", zeros(WIDTH)),
        (f"{layer}.mlp.dense_h_to_4h.weight", _up()),
        (f"{layer}.mlp.dense_h_to_4h.bias", zeros(HIDDEN)),
        (f"{layer}.mlp.dense_4h_to_h.weight", _down(family)),
        (f"{layer}.mlp.dense_4h_to_h.bias", zeros(WIDTH)),
    ]


def _mpt(family: str) -> Tensors:
    layer = "transformer.blocks.0"
    return [
        ("transformer.wte.weight", _embedding()),
        ("transformer.norm_f.weight", ones(WIDTH)),
        (f"{layer}.norm_1.weight", ones(WIDTH)),
        (f"{layer}.attn.Wqkv.weight", zeros(3 * WIDTH, WIDTH)),
        (f"{layer}.attn.out_proj.weight", zeros(WIDTH, WIDTH)),
        (f"{layer}.norm_2.weight", ones(WIDTH)),
        (f"{layer}.ffn.up_proj.weight", _up()),
        (f"{layer}.ffn.down_proj.weight", _down(family)),
    ]


def _norm(scale: str, shift: str) -> tuple[tuple[str, Array], tuple[str, Array]]:
    return (scale, ones(WIDTH)), (shift, zeros(WIDTH))


def _ints(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}i", *numbers)


_HEAD = {
    "gpt2": _ints(VOCAB, CONTEXT, WIDTH, HEADS, 1, 0),
    "starcoder": _ints(VOCAB, CONTEXT, WIDTH, HEADS, 1, 0),
    "gptj": _ints(VOCAB, CONTEXT, WIDTH, HEADS, 1, WIDTH // HEADS, 0),
    "gpt_neox": _ints(VOCAB, CONTEXT, WIDTH, HEADS, 1, WIDTH // HEADS, 1, 0),
    "dolly-v2": _ints(VOCAB, CONTEXT, WIDTH, HEADS, 1, WIDTH // HEADS, 1, 0),
    "mpt": _ints(WIDTH, CONTEXT, HEADS, 1, VOCAB) + struct.pack("<ffi", 8.0, 0.0, 0),
    "replit": _ints(WIDTH, CONTEXT, HEADS, 1, VOCAB, 0),
}
_TENSORS: dict[str, Callable[[str], Tensors]] = {
    "gpt2": _gpt2,
    "starcoder": _gpt2,  # its converter had spread the shared keys to all heads
    "gptj": _gptj,
    "gpt_neox": _neox,
    "dolly-v2": _neox,
    "mpt": _mpt,
    "replit": _mpt,
}
FAMILIES = tuple(_HEAD)


def legacy_bytes(family: str) -> bytes:
    """A whole file."""
    counted = _ints(VOCAB) if family in ("gpt2", "starcoder", "gptj") else b""
    head = b"lmgg" + _HEAD[family] + counted + _vocabulary(family)
    return head + b"".join(tensor_bytes(name, values) for name, values in _TENSORS[family](family))


def _vocabulary(family: str) -> bytes:
    """Replit writes spaces as U+2581 and a score after each token: the fewer tokens, the better the sum."""
    if family != "replit":
        return b"".join(counted_bytes(word.encode()) for word in words(family))
    pieces = [(word.replace(" ", "\u2581").encode(), len(word) - VOCAB) for word in words(family)]
    return b"".join(counted_bytes(piece) + struct.pack("<f", score) for piece, score in pieces)


def counted_bytes(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


def tensor_bytes(name: str, values: Array, *, offset: int | None = None) -> bytes:
    """One tensor as F32. With `offset`, its place in the file, its data begins at a multiple of 32."""
    head = tensor_head(name, values.shape, 0)
    padding = b"" if offset is None else b"\0" * (-(offset + len(head)) % 32)
    return head + padding + np.ascontiguousarray(values).tobytes()


def tensor_head(name: str, shape: Sequence[int], kind: int) -> bytes:
    """Files have the length of a row first, numpy has it last."""
    dimensions = len(shape)
    return struct.pack("<III", dimensions, len(name), kind) + _ints(*reversed(shape)) + name.encode()


def write_legacy_models(folder: Path) -> None:
    """Every family's file, `FAMILY.bin`."""
    for family in FAMILIES:
        (folder / f"{family}.bin").write_bytes(legacy_bytes(family))

"""The demo model as a legacy file: magic "ggjt", version 3, the last format of llama before GGUF.

The format fixes what its header cannot say: no shared keys (their rows are repeated, which is exact), rope base 10,000
(SmolLM2 was trained with 100,000: it stays fluent for short prompts), bos 1 and eos 2 (SmolLM2 happens to have them).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gguf import TokenType
from helpers.legacy_ggml import counted_bytes, tensor_head
from helpers.smollm2_to_spm import byte_decoder, late, merge_ranks, missing_bytes, opened

_MULTIPLES = (256, 128, 64, 32, 16)
_LAYER = {
    "attention_norm": "attn_norm",
    "attention.wq": "attn_q",
    "attention.wk": "attn_k",
    "attention.wv": "attn_v",
    "attention.wo": "attn_output",
    "ffn_norm": "ffn_norm",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
}


def write_ggjt_model(source: Path, target: Path) -> None:
    reader = opened(source)
    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def get(key: str) -> Any:
        return reader.fields[key].contents()

    width, heads, layers = (get(f"llama.{key}") for key in ("embedding_length", "attention.head_count", "block_count"))
    vocabulary = _vocabulary(*(get(f"tokenizer.ggml.{key}") for key in ("tokens", "token_type", "merges")))
    multiple = _multiple(width, get("llama.feed_forward_length"))
    numbers = (3, len(vocabulary), width, multiple, heads, layers, width // heads, get("general.file_type"))
    repeats = heads // get("llama.attention.head_count_kv")
    with target.open("wb") as file:
        file.write(b"tjgg" + struct.pack("<8I", *numbers))
        for text, score in vocabulary:
            file.write(counted_bytes(text) + struct.pack("<f", score))
        _write(file, "tok_embeddings.weight", tensors["token_embd.weight"])
        _write(file, "norm.weight", tensors["output_norm.weight"])
        _write(file, "output.weight", tensors["token_embd.weight"])
        for layer in range(layers):
            for old, new in _LAYER.items():
                shared = repeats if new in ("attn_k", "attn_v") else 1
                _write(
                    file, f"layers.{layer}.{old}.weight", tensors[f"blk.{layer}.{new}.weight"], width // heads, shared
                )


def _multiple(width: int, hidden: int) -> int:
    """The header says to which multiple two thirds of four widths were rounded up."""
    raw = 2 * (4 * width) // 3
    return next(each for each in _MULTIPLES if -(-raw // each) * each == hidden)


def _vocabulary(tokens: list[str], kinds: list[int], merges: list[str]) -> list[tuple[bytes, float]]:
    """Raw bytes, with the scores of `smollm2_to_spm`."""
    decoder, ranks = byte_decoder(), merge_ranks(merges)
    words: list[tuple[bytes, float]] = []
    for token, kind in zip(tokens, kinds, strict=True):
        raw = bytes(decoder[character] for character in token) if kind == TokenType.NORMAL else token.encode()
        plain = kind != TokenType.NORMAL or len(raw) == 1
        words.append((raw, 0.0 if plain else float(-1 - ranks[token] - late(raw))))
    have = {raw[0] for raw, _ in words if len(raw) == 1}
    free = [place for place, kind in enumerate(kinds) if kind == TokenType.CONTROL and place > 2]
    for byte, place in zip(missing_bytes(have), free, strict=False):
        words[place] = (bytes([byte]), 0.0)
    return words


def _write(file: BinaryIO, name: str, tensor: Any, head: int = 0, repeats: int = 1) -> None:
    """Rows of quantised blocks are repeated as they are."""
    data = tensor.data
    if repeats > 1:
        data = np.repeat(data.reshape(-1, head, data.shape[-1]), repeats, axis=0).reshape(-1, data.shape[-1])
    row, *rows = (int(size) for size in tensor.shape)
    file.write(tensor_head(name, (*(rows and [data.shape[0]]), row), int(tensor.tensor_type)))
    file.write(b"\0" * (-file.tell() % 32) + np.ascontiguousarray(data).tobytes())

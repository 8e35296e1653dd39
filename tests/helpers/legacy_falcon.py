"""A tiny Falcon in the format of ggllm.cpp (magic "ggcc", version 10), with the answers of `legacy_ggml`."""

from __future__ import annotations

import struct

import numpy as np
from helpers.legacy_ggml import CHAIN, HEADS, HIDDEN, WIDTH, Tensors, counted_bytes, ones, tensor_bytes, zeros

_END = 11  # the loader's fixed end of text; 193 and 195 are its line ends
_VOCAB = 224


def _vocabulary() -> tuple[list[str], list[tuple[str, str]]]:
    """Characters first, then what the merges make of the chain's words, character by character."""
    words: list[str] = []
    for character in "abcdefghijklmnopqrstuvwxyzTFP. !":
        if len(words) == _END:
            words.append(CHAIN[-1])
        words.append(character)
    merges: list[tuple[str, str]] = []
    for word in CHAIN[:-1]:
        for end in range(1, len(word)):
            merges += [pair for pair in [(word[:end], word[end])] if pair not in merges]
            words += [piece for piece in [word[: end + 1]] if piece not in words]
    words += [f"tok{number}" for number in range(len(words), _VOCAB)]
    words[193], words[195] = "\n", "\r"
    return words, merges


def _tensors(words: list[str]) -> Tensors:
    """The chain's tokens have a direction each; all others share the last, which leads nowhere."""
    places = {words.index(word): place for place, word in enumerate(CHAIN)}
    embedding, head = zeros(_VOCAB, WIDTH), zeros(_VOCAB, WIDTH)
    embedding[:, WIDTH - 1] = 1
    for token, place in places.items():
        embedding[token] = np.eye(WIDTH, dtype=np.float32)[place]
        head[token, place] = 1
    up, down = zeros(HIDDEN, WIDTH), zeros(WIDTH, HIDDEN)
    up[:WIDTH] = np.eye(WIDTH)
    for place in range(len(CHAIN) - 1):
        down[place + 1, place] = 5
    down[len(CHAIN) - 1, WIDTH - 1] = 5
    layer = "transformer.h.0."
    return [
        ("transformer.word_embeddings.weight", embedding),
        ("transformer.ln_f.weight", ones(WIDTH)),
        ("transformer.ln_f.bias", zeros(WIDTH)),
        ("lm_head.weight", head),
        (layer + "input_layernorm.weight", ones(WIDTH)),
        (layer + "input_layernorm.bias", zeros(WIDTH)),
        (layer + "self_attention.query_key_value.weight", zeros((2 + HEADS) * WIDTH // HEADS, WIDTH)),
        (layer + "self_attention.dense.weight", zeros(WIDTH, WIDTH)),
        (layer + "mlp.dense_h_to_4h.weight", up),
        (layer + "mlp.dense_4h_to_h.weight", down),
    ]


def falcon_bytes() -> bytes:
    """A whole file."""
    words, merges = _vocabulary()
    file = b"ccgg" + struct.pack("<I8I", 10, len(words), WIDTH, HEADS, 1, 1, 7, 0, len(merges))
    file += b"".join(counted_bytes(word.encode()) + struct.pack("<f", 0) for word in words)
    file += struct.pack("<I", len(merges))
    file += b"".join(counted_bytes(part.replace(" ", "\u0120").encode()) for pair in merges for part in pair)
    for name, values in _tensors(words):
        file += tensor_bytes(name, values, offset=len(file))
    return file

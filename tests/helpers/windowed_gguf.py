"""A GGUF some of whose layers attend to a window alone (cohere2, random weights, half a MiB): it says nothing, and has a cache to measure."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WIDTH, HEADS, HEADS_KV, HIDDEN = 64, 4, 2, 64
TOKENS = [f"<{number}>" for number in range(256)] + ["<|end|>", "ab", "a", "b"]


def write_windowed_model(path: Path, *, layers: int, window: int, pattern: int | list[bool] | None) -> None:
    """`pattern` as in `attention.sliding_window_pattern`; None: the key is left out, as older files do."""
    writer = gguf.GGUFWriter(str(path), "cohere2")
    _describe(writer, layers)
    writer.add_sliding_window(window)
    if pattern is not None:
        writer.add_sliding_window_pattern(pattern)
    _describe_tokenizer(writer)
    _add_tensors(writer, layers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, layers: int) -> None:
    writer.add_context_length(131072)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS_KV)
    writer.add_layer_norm_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(TOKENS))
    writer.add_logit_scale(0.25)


def _describe_tokenizer(writer: gguf.GGUFWriter) -> None:
    end = TOKENS.index("<|end|>")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL if text == "<|end|>" else gguf.TokenType.NORMAL for text in TOKENS])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)


def _add_tensors(writer: gguf.GGUFWriter, layers: int) -> None:
    chance, kv = np.random.default_rng(1), WIDTH // HEADS * HEADS_KV

    def matrix(name: str, rows: int, columns: int) -> None:
        writer.add_tensor(f"{name}.weight", chance.normal(0, 0.02, (rows, columns)).astype(np.float16))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))

    matrix("token_embd", len(TOKENS), WIDTH)
    norm("output_norm")
    for layer in range(layers):
        norm(f"blk.{layer}.attn_norm")
        for name, rows in (("q", WIDTH), ("k", kv), ("v", kv), ("output", WIDTH)):
            matrix(f"blk.{layer}.attn_{name}", rows, WIDTH)
        for name, rows, columns in (("gate", HIDDEN, WIDTH), ("up", HIDDEN, WIDTH), ("down", WIDTH, HIDDEN)):
            matrix(f"blk.{layer}.ffn_{name}", rows, columns)

"""A llama of random weights in any of ggml's formats: as fast as a sensible one of its size, and made in seconds."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.errors import CannotRun

WIDTH, HIDDEN, LAYERS, HEADS, KV_HEADS, CONTEXT = 1024, 2816, 8, 16, 4, 2048
VOCABULARY = 8192
BYTES = 256  # tokens of single bytes, which a vocabulary of this kind has to have
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_SEED = 1


def write(path: Path, quantization: str) -> None:
    """`quantization` as the gguf package names it, "Q4_0"; norms stay what they are, 32 bits. Raises CannotRun."""
    if importlib.util.find_spec("gguf") is None:
        raise CannotRun("the package gguf is not installed: build/venv test")
    import gguf

    if quantization not in formats():
        raise CannotRun(f"'{quantization}' is no format of weights; there are {', '.join(formats())}")
    kind = gguf.GGMLQuantizationType[quantization]
    writer = gguf.GGUFWriter(path, "llama")
    _facts(writer)
    pack = _Packer(int(kind))
    noise = np.random.default_rng(_SEED).standard_normal(HIDDEN * WIDTH, dtype=np.float32) * np.float32(0.02)
    for name, rows, columns in matrices():
        writer.add_tensor(f"{name}.weight", pack(np.resize(noise, (rows, columns))), raw_dtype=kind)
    for name in norms():
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def formats() -> list[str]:
    """Those that need no calibration."""
    return ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]


def matrices() -> Iterator[tuple[str, int, int]]:
    """Name, rows, columns."""
    yield from (("token_embd", VOCABULARY, WIDTH), ("output", VOCABULARY, WIDTH))
    narrow = WIDTH // HEADS * KV_HEADS
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        yield from ((f"{block}.attn_{name}", WIDTH, WIDTH) for name in ("q", "output"))
        yield from ((f"{block}.attn_{name}", narrow, WIDTH) for name in ("k", "v"))
        yield from ((f"{block}.ffn_{name}", HIDDEN, WIDTH) for name in ("gate", "up"))
        yield f"{block}.ffn_down", WIDTH, HIDDEN


def norms() -> Iterator[str]:
    yield "output_norm"
    for layer in range(LAYERS):
        yield from (f"blk.{layer}.attn_norm", f"blk.{layer}.ffn_norm")


class _Packer:
    """Ggml's own conversion, out of the engine's library."""

    def __init__(self, kind: int) -> None:
        package = importlib.util.find_spec("xllamacpp")
        if package is None or package.origin is None:
            raise CannotRun("the engine's library, xllamacpp, is not installed")
        self._ggml = ctypes.CDLL(str(next(Path(package.origin).parent.glob("xllamacpp*.so"))))
        self._ggml.ggml_row_size.restype = self._ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
        self._kind = kind

    def __call__(self, matrix: Any) -> Any:
        rows, columns = (ctypes.c_int64(each) for each in matrix.shape)
        packed = np.empty((matrix.shape[0], self._ggml.ggml_row_size(self._kind, columns)), np.uint8)
        source, target = (ctypes.c_void_p(each.ctypes.data) for each in (matrix, packed))
        self._ggml.ggml_quantize_chunk(self._kind, source, target, ctypes.c_int64(0), rows, columns, None)
        return packed


def _facts(writer: Any) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(BYTES))]
    words = [f"w{number}" for number in range(VOCABULARY - len(special))]
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * BYTES, *[_NORMAL] * len(words)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*special, *words])
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

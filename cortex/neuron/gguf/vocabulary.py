"""A model's vocabulary and chat template as a GGUF of their own, which an engine loads in a fraction of a second.

llama.cpp's server has no mode without weights. So the copy has some: a llama of one layer and 32 dimensions, all zeros,
which as a sparse file take no room. What it says is nonsense; how it splits a text into tokens, and what prompt it makes
of messages, is the model's own, because both depend on the copied keys alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cortex.neuron.gguf.cursor import Cursor, GGUFError, opened
from cortex.neuron.gguf.facts import MAX_WHOLE, Facts, read_facts
from cortex.neuron.gguf.header import DEFAULT_ALIGNMENT, MAGIC, read_version

_WIDTH = 32
_F32, _Q8_0 = 0, 8
_U32_TYPE, _F32_TYPE, _STRING_TYPE = 4, 6, 8
_SHAPE: Mapping[str, int | float | str] = {
    "general.architecture": "llama",
    "llama.context_length": 1 << 20,
    "llama.block_count": 1,
    "llama.embedding_length": _WIDTH,
    "llama.feed_forward_length": _WIDTH,
    "llama.rope.dimension_count": _WIDTH,
    "llama.attention.head_count": 1,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
}
_NORMS = ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm")
_SQUARES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


class _Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    kind: int
    size: int


def write_vocabulary(source: Path, target: Path) -> None:
    """Write the vocabulary of the GGUF at `source` to `target`. Blocks for some ms; raises GGUFError, OSError for `target`."""
    with opened(source) as (file, size), target.open("wb") as copy:
        cursor = Cursor(file, size)
        read_version(cursor)
        cursor.u64("the number of tensors")
        facts = read_facts(cursor, cursor.u64("the number of keys"))
        tokens = facts.array_lengths.get("tokenizer.ggml.tokens")
        if not tokens:
            raise GGUFError("it has no vocabulary")
        _write(copy, file, facts, tuple(_tensors(tokens)))


def _tensors(tokens: int) -> Iterator[_Tensor]:
    yield _Tensor("token_embd.weight", (_WIDTH, tokens), _Q8_0, tokens * 34)  # a block of 32 has 34 bytes
    for name in _NORMS:
        yield _Tensor(f"{name}.weight", (_WIDTH,), _F32, _WIDTH * 4)
    for name in _SQUARES:
        yield _Tensor(f"blk.0.{name}.weight", (_WIDTH, _WIDTH), _F32, _WIDTH * _WIDTH * 4)


def _write(copy: BinaryIO, file: FileIO, facts: Facts, tensors: tuple[_Tensor, ...]) -> None:
    kept = [span for key, span in facts.spans.items() if key.startswith("tokenizer.") or key == "general.name"]
    if (size := sum(end - start for start, end in kept)) > MAX_WHOLE:
        raise GGUFError(f"its vocabulary has {size} bytes, and at most {MAX_WHOLE} are copied")
    copy.write(MAGIC + struct.pack("<IQQ", 3, len(tensors), len(_SHAPE) + len(kept)))
    copy.writelines(_text(key) + _value(value) for key, value in _SHAPE.items())
    for start, end in kept:
        file.seek(start)
        copy.write(file.read(end - start))
    offset = 0
    for tensor in tensors:
        copy.write(_described(tensor, offset))
        offset += _aligned(tensor.size)
    copy.truncate(_aligned(copy.tell()) + offset)


def _described(tensor: _Tensor, offset: int) -> bytes:
    form = f"<I{len(tensor.shape)}QIQ"
    return _text(tensor.name) + struct.pack(form, len(tensor.shape), *tensor.shape, tensor.kind, offset)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _value(value: float | str) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _STRING_TYPE) + _text(value)
    if isinstance(value, int):
        return struct.pack("<II", _U32_TYPE, value)
    return struct.pack("<If", _F32_TYPE, value)


def _aligned(size: int) -> int:
    return -(-size // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT

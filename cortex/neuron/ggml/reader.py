"""Reading a legacy file to its last tensor: all that its loader takes on trust is held against the file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cortex.neuron.ggml.families import LLAMA, Tensor, demanded
from cortex.neuron.ggml.start import FILE_TYPES, LOADABLE, GGMLError, Start, read_start, refused_types, tensor_head
from cortex.neuron.ggml.vocabulary import LegacyVocabulary
from cortex.neuron.gguf.cursor import Cursor, opened
from cortex.neuron.gguf.header import Header
from cortex.neuron.gguf.tables import TENSOR_TYPES, TensorType

_ALIGNED = frozenset({"ggjt", "ggcc"})
_ALIGNMENT = 32
_MARKS = {
    b"### End": ("gpt_neox", "dolly-v2"),
    b"<fim-prefix>": ("gpt2", "starcoder"),
    b"<fim_prefix>": ("gpt2", "starcoder"),
}


@dataclass(frozen=True, slots=True)
class LegacyFile:
    """A sound file. `header` says in GGUF's words what it is."""

    header: Header
    vocabulary: LegacyVocabulary


@dataclass(frozen=True, slots=True)
class _Stored:
    count: int
    bytes: int
    by_type: Mapping[str, int]


def read_legacy(path: Path) -> LegacyFile:
    """Read the file at `path` to its end, weights left out. Blocks (some 50 ms for a large vocabulary); raises GGMLError, nothing else."""
    with opened(path, GGMLError) as (file, size):
        start = read_start(file, size, path)
        stored = _read_tensors(start)
        return LegacyFile(_header(start, stored, size), start.vocabulary)


# ---- the tensors


def _read_tensors(start: Start) -> _Stored:
    cursor = start.cursor
    wanted = {tensor.name: tensor for tensor in demanded(start.family, start.numbers)}
    by_type: dict[str, int] = {}
    count = 0
    while cursor.left:
        name, shape, kind_id = tensor_head(cursor)
        tensor = wanted.pop(name, None)
        if tensor is None:
            raise cursor.fail(f"the tensor '{name}' has no place in a {start.family.name} model, or stands there twice")
        kind = _kind(start, tensor, shape, kind_id)
        if start.container in _ALIGNED:
            cursor.skip(-cursor.offset % _ALIGNMENT, f"the padding of '{name}'")
        size = math.prod(shape) // kind.block * kind.size
        cursor.skip(size, f"the tensor '{name}'")
        by_type[kind.name] = by_type.get(kind.name, 0) + size
        count += 1
    _check_complete(cursor, wanted.values())
    return _Stored(count, sum(by_type.values()), by_type)


def _kind(start: Start, tensor: Tensor, shape: tuple[int, ...], kind_id: int) -> TensorType:
    """The tensor's type, when it and the shape are what the loader expects."""
    name, cursor = tensor.name, start.cursor
    if shape != tensor.shape:
        raise cursor.fail(f"the tensor '{name}' has the shape {shape}, and the hyperparameters demand {tensor.shape}")
    kind = TENSOR_TYPES[kind_id] if kind_id in LOADABLE else None
    if kind is None or kind_id not in _allowed(start, tensor):
        raise cursor.fail(
            f"the tensor '{name}' has type {kind.name if kind else kind_id}, which its loader does not take"
        )
    if shape[0] % kind.block:
        raise cursor.fail(f"the tensor '{name}' has rows of {shape[0]}, and {kind.name} stores blocks of {kind.block}")
    return kind


def _allowed(start: Start, tensor: Tensor) -> frozenset[int]:
    if tensor.is_f32:
        return frozenset({0})
    if start.container == "ggml":  # one type for all
        return frozenset({FILE_TYPES[start.numbers["ftype"] % 1000]})
    return LOADABLE - (refused_types(start.version) if start.family is LLAMA else frozenset())


def _check_complete(cursor: Cursor, missing: Iterable[Tensor]) -> None:
    """A file that was cut between two tensors shows in nothing else."""
    names = [tensor.name for tensor in missing if not tensor.optional]
    if names:
        raise cursor.fail(f"the file is cut off: {len(names)} tensors are missing, the first is '{names[0]}'")


# ---- in GGUF's words


def _header(start: Start, stored: _Stored, size: int) -> Header:
    numbers = start.numbers
    head = numbers["width"] // numbers["heads"]
    return Header(
        version=start.version,
        kind="model",
        architecture=_architecture(start),
        name=None,
        basename=None,
        size_label=None,
        tokenizer_model=None,
        chat_template=None,
        context_length=numbers.get("context"),
        block_count=numbers["layers"],
        embedding_length=numbers["width"],
        head_count=numbers["heads"],
        head_count_kv=numbers.rows["K"] // head,
        key_length=head,
        value_length=head,
        vocab_size=numbers["vocab"],
        expert_count=None,
        sliding_window=None,
        full_attention_interval=None,
        quant=max(stored.by_type, key=lambda name: stored.by_type[name]),
        pooling=None,
        classifies=False,
        split=None,
        tensor_count=stored.count,
        tensor_bytes=stored.bytes,
        file_bytes=size,
        container=start.container,
    )


def _architecture(start: Start) -> str:
    """Starcoder and dolly-v2 are written like gpt2 and gpt_neox; their vocabularies tell them apart."""
    tokens = frozenset(start.vocabulary.tokens)
    for mark, (family, architecture) in _MARKS.items():
        if start.family.name == family and mark in tokens:
            return architecture
    return start.family.name

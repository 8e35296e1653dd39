"""The tensor descriptions of a header: how many bytes they claim, and where they end."""

from __future__ import annotations

import math
import struct
from collections import Counter
from dataclasses import dataclass, field

from cortex.neuron.gguf.cursor import Cursor
from cortex.neuron.gguf.facts import MAX_NAME
from cortex.neuron.gguf.tables import TENSOR_TYPES

MAX_TENSORS = 1 << 15  # the largest real models have 2,000 to 4,000
MAX_DIMENSIONS = 4

_U32 = struct.Struct("<I")
_SHAPES = [struct.Struct(f"<{dimensions}QIQ") for dimensions in range(MAX_DIMENSIONS + 1)]
_CLASSIFIERS = frozenset({"cls.weight", "cls.output.weight"})


@dataclass
class Tensors:
    """The sum of the descriptions.

    bytes   of all tensors; those of a type that is not known here count nothing, and `unsized` says so
    end     the last byte that is claimed, from the start of the data, and `last` is whose it is
    """

    count: int
    bytes: int = 0
    end: int = 0
    last: str = ""
    unsized: bool = False
    classifies: bool = False
    bytes_by_type: Counter[str] = field(default_factory=Counter)

    @property
    def largest_type(self) -> str | None:
        """The type with most bytes."""
        return self.bytes_by_type.most_common(1)[0][0] if self.bytes_by_type else None

    def add(self, name: str, kind: str | None, size: int, offset: int) -> None:
        self.bytes += size
        self.classifies = self.classifies or name in _CLASSIFIERS
        if offset + size > self.end:
            self.end, self.last = offset + size, name
        if kind is None:
            self.unsized = True
        else:
            self.bytes_by_type[kind] += size


def read_tensors(cursor: Cursor, count: int) -> Tensors:
    """Read `count` descriptions."""
    if count > MAX_TENSORS:
        raise cursor.fail(f"it claims {count} tensors, and at most {MAX_TENSORS} are accepted")
    tensors = Tensors(count)
    seen: set[str] = set()
    for _ in range(count):
        name = cursor.text(MAX_NAME, "a tensor's name")
        if name in seen:
            raise cursor.fail(f"the tensor '{name}' stands there twice")
        seen.add(name)
        _read_tensor(cursor, name, tensors)
    return tensors


def _read_tensor(cursor: Cursor, name: str, tensors: Tensors) -> None:
    dimensions = int(cursor.number(_U32, f"the dimensions of {name}"))
    if dimensions > MAX_DIMENSIONS:
        raise cursor.fail(f"the tensor '{name}' claims {dimensions} dimensions, and at most {MAX_DIMENSIONS} exist")
    form = _SHAPES[dimensions]
    *shape, type_id, offset = form.unpack(cursor.take(form.size, f"the tensor '{name}'"))
    kind = TENSOR_TYPES.get(type_id)
    if kind is None:
        tensors.add(name, None, 0, offset)
        return
    if shape and shape[0] % kind.block:
        raise cursor.fail(f"the tensor '{name}' has rows of {shape[0]}, and {kind.name} stores blocks of {kind.block}")
    tensors.add(name, kind.name, math.prod(shape) // kind.block * kind.size, offset)

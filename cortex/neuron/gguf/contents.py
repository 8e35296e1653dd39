"""All that a GGUF header holds, vocabulary and tensors one by one: for an engine that must know, not for a scan of many files."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

from cortex.neuron.gguf.cursor import Cursor, opened
from cortex.neuron.gguf.facts import MAX_KEYS, MAX_NAME, MAX_STRINGS, MAX_WHOLE
from cortex.neuron.gguf.tensors import MAX_DIMENSIONS, MAX_TENSORS

STRING, ARRAY = 8, 9
U32, I32, F32 = 4, 5, 6
_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_FORMS = {kind: struct.Struct("<" + code) for kind, code in _CODES.items()}
_MAX_STRING = 1 << 20

Scalar = int | float | bool | bytes


@dataclass(frozen=True, slots=True)
class Contents:
    """scalars: key → (type, value); strings, numbers: arrays by key; element_types: of `numbers`; tensors: name → (shape, type)."""

    scalars: dict[str, tuple[int, Scalar]] = field(default_factory=dict)
    strings: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    numbers: dict[str, tuple[int | float, ...]] = field(default_factory=dict)
    element_types: dict[str, int] = field(default_factory=dict)
    tensors: dict[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)

    def number(self, key: str) -> int | None:
        value = self.scalars.get(key, (0, None))[1]
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.scalars.get(key, (0, None))[1]
        return value if isinstance(value, bool) else default


def read_contents(path: Path) -> Contents:
    """Read a header that `read_header` accepts. Blocks (some 0.2 s for a large vocabulary); raises GGUFError, nothing else."""
    with opened(path) as (file, size):
        cursor = Cursor(file, size)
        cursor.skip(8, "the magic and the version")
        tensors, keys = cursor.u64("the number of tensors"), cursor.u64("the number of keys")
        if keys > MAX_KEYS or tensors > MAX_TENSORS:
            raise cursor.fail(f"it claims {keys} keys and {tensors} tensors")
        found = Contents()
        for _ in range(keys):
            _read_pair(cursor, found)
        for _ in range(tensors):
            _read_tensor(cursor, found)
        return found


def _read_pair(cursor: Cursor, found: Contents) -> None:
    key = cursor.text(MAX_NAME, "a key")
    kind = _u32(cursor, key)
    if kind == ARRAY:
        _read_array(cursor, key, found)
    elif kind == STRING:
        found.scalars[key] = kind, _string(cursor, key)
    else:
        found.scalars[key] = kind, cursor.number(_form(cursor, kind, key), key)


def _read_array(cursor: Cursor, key: str, found: Contents) -> None:
    kind, length = _u32(cursor, key), cursor.u64(key)
    if length > MAX_STRINGS:
        what = "strings" if kind == STRING else "numbers"
        raise cursor.fail(f"{key} claims {length} {what}, and at most {MAX_STRINGS} are accepted")
    if kind == STRING:
        found.strings[key] = tuple(_string(cursor, key) for _ in range(length))
    else:
        form = _form(cursor, kind, key)
        found.element_types[key] = kind
        packed = _take(cursor, length * form.size, key)
        found.numbers[key] = tuple(number for (number,) in form.iter_unpack(packed))


def _read_tensor(cursor: Cursor, found: Contents) -> None:
    name = cursor.text(MAX_NAME, "a tensor's name")
    dimensions = _u32(cursor, name)
    if dimensions > MAX_DIMENSIONS:
        raise cursor.fail(f"the tensor '{name}' claims {dimensions} dimensions")
    shape = tuple(cursor.u64(name) for _ in range(dimensions))
    found.tensors[name] = shape, _u32(cursor, name)
    cursor.skip(8, name)


def _string(cursor: Cursor, what: str) -> bytes:
    length = cursor.u64(what)
    if length > _MAX_STRING:
        raise cursor.fail(f"{what} claims {length} bytes, and at most {_MAX_STRING} are accepted")
    return _take(cursor, length, what)


def _take(cursor: Cursor, count: int, what: str) -> bytes:
    if cursor.offset + count > MAX_WHOLE:
        raise cursor.fail(f"the header goes on behind {MAX_WHOLE} bytes, and no more are accepted ({what})")
    return cursor.take(count, what)


def _u32(cursor: Cursor, what: str) -> int:
    return int(cursor.number(_FORMS[U32], what))


def _form(cursor: Cursor, kind: int, key: str) -> struct.Struct:
    if kind not in _FORMS:
        raise cursor.fail(f"{key} has the unknown type {kind}")
    return _FORMS[kind]

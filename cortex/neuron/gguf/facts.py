"""The key-value pairs of a header: what is kept of them, typed on asking.

Vocabularies are counted, not read. Every number that says "how many" has a bound that no real file comes near.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from cortex.neuron.gguf.cursor import MAX_TEXT, Cursor, GGUFError

MAX_KEYS = 1 << 13  # real files have 20 to 100
MAX_STRINGS = 1 << 20  # in all arrays together; the largest real vocabulary: 262,144 tokens and 514,906 merges
MAX_LAYERS = 1 << 12  # numbers of an array that is kept: one for each layer
MAX_NAME = 256  # bytes of a key or a tensor's name (llama.cpp takes 63 for a tensor's)
MAX_WHOLE = (
    1 << 26
)  # bytes of what is read or copied whole; the largest real vocabulary has some 20 MiB, merges included
MAX_COUNT = (1 << 32) - 1  # llama.cpp keeps lengths and counts in 32 bits

_U32 = struct.Struct("<I")
_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_NUMBERS = {type_id: struct.Struct("<" + code) for type_id, code in _CODES.items()}
_STRING, _ARRAY = 8, 9
_NO_INTEGERS = frozenset({6, 7, 12})

_KEPT_TEXTS = frozenset(
    {
        "general.architecture",
        "general.type",
        "general.name",
        "general.basename",
        "general.size_label",
        "tokenizer.ggml.model",
        "tokenizer.chat_template",
    }
)
_WORDS = frozenset({"general.architecture", "general.type", "tokenizer.ggml.model"})  # told in sentences about a file
_KEPT_ARRAYS = (".attention.head_count", ".attention.head_count_kv")
_KEPT_FLAGS = ".attention.sliding_window_pattern"
_FLAG = 7

Value = int | float | str | tuple[int, ...]


class Fact(NamedTuple):
    value: Value
    offset: int


@dataclass
class Facts:
    """What the pairs say: all numbers, a few texts, a few arrays of numbers, every array's length, and where each pair lies in the file."""

    values: dict[str, Fact] = field(default_factory=dict)
    array_lengths: dict[str, int] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)

    def error(self, key: str, message: str) -> GGUFError:
        fact = self.values.get(key)
        return GGUFError(f"{key} {message}", fact.offset if fact else None)

    def text(self, key: str) -> str | None:
        fact = self.values.get(key)
        if fact is None:
            return None
        if not isinstance(fact.value, str):
            raise self.error(key, f"is {fact.value!r}, and a text belongs there")
        return fact.value

    def count(self, key: str, limit: int = MAX_COUNT) -> int | None:
        """A whole number from 0 to `limit`."""
        fact = self.values.get(key)
        return None if fact is None else self._whole(key, fact.value, limit)

    def per_layer(self, key: str) -> int | tuple[int, ...] | None:
        """A whole number for all layers, or one for each."""
        fact = self.values.get(key)
        if fact is not None and isinstance(fact.value, tuple):
            return tuple(self._whole(key, value, MAX_COUNT) for value in fact.value)
        return self.count(key)

    def _whole(self, key: str, value: Value, limit: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
            raise self.error(key, f"is {value!r:.80}, and a whole number from 0 to {limit} belongs there")
        return value


def read_facts(cursor: Cursor, keys: int) -> Facts:
    """Read `keys` pairs."""
    if keys > MAX_KEYS:
        raise cursor.fail(f"it claims {keys} keys, and at most {MAX_KEYS} are accepted")
    reader = _Reader(cursor)
    for _ in range(keys):
        reader.read_pair()
    return reader.facts


class _Reader:
    def __init__(self, cursor: Cursor) -> None:
        self.facts = Facts()
        self._cursor = cursor
        self._seen: set[str] = set()
        self._strings_left = MAX_STRINGS

    def read_pair(self) -> None:
        offset = self._cursor.offset
        key = self._cursor.text(MAX_NAME, "a key")
        if key in self._seen:
            raise GGUFError(f"the key '{key}' stands there twice", offset)
        self._seen.add(key)
        value = self._value(key, self._type_of(key))
        self.facts.spans[key] = (offset, self._cursor.offset)
        if value is not None:
            self.facts.values[key] = Fact(value, offset)

    def _type_of(self, key: str) -> int:
        type_id = int(self._cursor.number(_U32, f"the type of {key}"))
        if type_id not in _NUMBERS and type_id not in (_STRING, _ARRAY):
            raise self._cursor.fail(f"{key} has the unknown type {type_id}")
        return type_id

    def _value(self, key: str, type_id: int) -> Value | None:
        """The value, or None when it is not kept."""
        if type_id == _ARRAY:
            return self._array(key)
        if type_id != _STRING:
            return self._cursor.number(_NUMBERS[type_id], key)
        if key in _KEPT_TEXTS:
            return self._cursor.text(MAX_NAME if key in _WORDS else MAX_TEXT, key)
        self._cursor.skip_text(key)
        return None

    def _array(self, key: str) -> tuple[int, ...] | None:
        type_id = self._type_of(key)
        length = self._cursor.u64(f"the length of {key}")
        self.facts.array_lengths[key] = length
        if type_id == _ARRAY:
            raise self._cursor.fail(f"{key} is an array of arrays, which no model has")
        if type_id == _STRING:
            self._skip_strings(key, length)
            return None
        return self._numbers(key, type_id, length)

    def _skip_strings(self, key: str, length: int) -> None:
        if length > self._strings_left:
            raise self._cursor.fail(
                f"{key} claims {length} strings, and at most {self._strings_left} more are accepted"
            )
        self._strings_left -= length
        self._cursor.skip_texts(length, key)

    def _numbers(self, key: str, type_id: int, length: int) -> tuple[int, ...] | None:
        form = _NUMBERS[type_id]
        flags = key.endswith(_KEPT_FLAGS) and type_id == _FLAG
        kept = key.endswith((*_KEPT_ARRAYS, _KEPT_FLAGS)) and type_id not in _NO_INTEGERS
        if not (flags or kept) or length > MAX_LAYERS:
            self._cursor.skip(length * form.size, key)
            return None
        packed = self._cursor.take(length * form.size, key)
        return tuple(int(number) if flags else number for (number,) in form.iter_unpack(packed))

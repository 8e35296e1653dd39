"""What stands before the tensors of a legacy file: magic, hyperparameters, vocabulary; and how a tensor begins."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from cortex.neuron.ggml.families import FALCON, LLAMA, UNVERSIONED, Family, Numbers, demanded, rows
from cortex.neuron.ggml.vocabulary import LegacyVocabulary, read_vocabulary
from cortex.neuron.gguf.cursor import Cursor, GGUFError

MAGICS = {b"lmgg": "ggml", b"fmgg": "ggmf", b"tjgg": "ggjt", b"ccgg": "ggcc"}  # little endian, as the file has them
_VERSIONS = {"ggmf": (1,), "ggjt": (1, 2, 3), "ggcc": (10,)}
_BOUNDS = {  # real files stay far below; products of these fit into the loaders' 32 bits, or are checked
    "vocab": (1, 1 << 20),
    "context": (1, 1 << 17),
    "width": (8, 1 << 14),
    "heads": (1, 256),
    "heads_kv": (1, 256),
    "layers": (1, 80),  # a graph of ggml has at most 4,096 nodes
    "multiple": (1, 1 << 16),
    "rotary": (1, 1 << 10),
    "parallel": (0, 1),
    "kind": (7, 40),
    "merges": (0, 1 << 20),
    "ftype": (0, (1 << 31) - 1),
}
_INT32 = 1 << 31
FILE_TYPES = {0: 0, 1: 1, 2: 2, 3: 3, 7: 8, 8: 6, 9: 7, 10: 10, 11: 11, 12: 12, 13: 13, 14: 14}  # → tensor type
LOADABLE = frozenset(FILE_TYPES.values())
_SINCE_V2 = frozenset(LOADABLE - {0, 1})  # stored in another way before version 2
_SINCE_V3 = frozenset({2, 3, 8})
_GROUPED = re.compile(r"(\b|_)70b(\b|_)", re.IGNORECASE | re.ASCII)  # how the library knows llama 2 70B: by its path

_U32, _I32, _F32 = struct.Struct("<I"), struct.Struct("<i"), struct.Struct("<f")


class GGMLError(GGUFError):
    """The file is no legacy file that can be served. `offset` is the byte at which that shows."""


@dataclass(frozen=True, slots=True)
class Start:
    """What stands before the tensors."""

    container: str
    version: int
    family: Family
    numbers: Numbers
    vocabulary: LegacyVocabulary
    cursor: Cursor


def read_start(file: FileIO, size: int, path: Path) -> Start:
    cursor = Cursor(file, size, GGMLError)
    magic = cursor.take(4, "the magic")
    container = MAGICS.get(magic)
    if container is None:
        raise GGMLError(f"it begins with {magic!r}, which no legacy format does", 0)
    version = 0
    if container == "ggml":
        return _unversioned(file, size)
    version = int(cursor.number(_U32, "the version"))
    if version not in _VERSIONS[container]:
        known = ", ".join(map(str, _VERSIONS[container]))
        raise GGMLError(f"it has version {version} of {container}, and known is {known}", 4)
    family = FALCON if container == "ggcc" else LLAMA
    grouped = 8 if family is LLAMA and _GROUPED.search(str(path)) else 1
    return _head(cursor, container, version, family, grouped)


def _unversioned(file: FileIO, size: int) -> Start:
    """Nothing says whose file this is, but the first tensor's name: each family is tried, and each one's refusal told."""
    refusals = []
    for family in UNVERSIONED:
        cursor = Cursor(file, size, GGMLError)
        cursor.skip(4, "the magic")
        try:
            start = _head(cursor, "ggml", 0, family, 1)
            if _first_name(file, size, cursor.offset) in {tensor.name for tensor in demanded(family, start.numbers)}:
                return start
            refusals.append(f"{family.name}: its first tensor is another")
        except GGMLError as refusal:
            refusals.append(f"{family.name}: {refusal}")
    raise GGMLError(f"it is of no family that is known here ({'; '.join(refusals)})")


def _first_name(file: FileIO, size: int, offset: int) -> str:
    cursor = Cursor(file, size, GGMLError)
    cursor.skip(offset, "the vocabulary")
    return tensor_head(cursor)[0]


def _head(cursor: Cursor, container: str, version: int, family: Family, grouped: int) -> Start:
    numbers = _numbers(cursor, family, grouped)
    _check_numbers(cursor, family, numbers, version)
    vocabulary = read_vocabulary(cursor, family, numbers["vocab"])
    _check_vocabulary(cursor, family, vocabulary)
    return Start(container, version, family, numbers, vocabulary, cursor)


def _numbers(cursor: Cursor, family: Family, grouped: int) -> Numbers:
    values: dict[str, int | float] = {}
    for name in family.fields:
        value = cursor.number(_F32 if name.endswith(".") else _I32, f"the hyperparameter '{name}'")
        low, high = _BOUNDS.get(name, (-math.inf, math.inf))
        if not low <= value <= high:
            raise cursor.fail(f"the hyperparameter '{name}' is {value:g}, and {low:g} to {high:g} is accepted")
        values[name] = value
    if values["width"] % values["heads"] or int(values["heads"]) % grouped:
        raise cursor.fail(f"{values['width']} numbers cannot be shared out to {values['heads']} heads")
    return Numbers(values, rows(Numbers(values), grouped=grouped))


def _check_numbers(cursor: Cursor, family: Family, numbers: Numbers, version: int) -> None:
    head = numbers["width"] // numbers["heads"]
    rotary = numbers.get("rotary")
    if rotary is not None and (rotary > head or rotary % 2):
        raise cursor.fail(f"{rotary} rotated numbers do not go with heads of {head}")
    if numbers["vocab"] * numbers["width"] >= _INT32:
        raise cursor.fail("the embedding is larger than the loader can count")
    if numbers["width"] * numbers["layers"] * (numbers.get("context") or 1) >= _INT32:
        raise cursor.fail("the cache is larger than the loader can count")
    if family is FALCON:
        _check_falcon(cursor, numbers)
    elif family is not LLAMA and numbers["ftype"] % 1000 not in FILE_TYPES:
        raise cursor.fail(f"it has the file type {numbers['ftype']}, which the loader does not know")
    if family is LLAMA and FILE_TYPES.get(numbers["ftype"]) in refused_types(version):
        raise cursor.fail(f"its quantisation (file type {numbers['ftype']}) is of before, and read no longer")


def _check_falcon(cursor: Cursor, numbers: Numbers) -> None:
    """Its buffers have fixed sizes, made for its two models."""
    if numbers["kind"] not in (7, 40):
        raise cursor.fail(f"it says to be Falcon {numbers['kind']}B, and known are 7B and 40B")
    if numbers["width"] > 8192 or numbers["heads"] % numbers["heads_kv"] or numbers["heads"] > 128:
        raise cursor.fail("it is larger than Falcon 40B, the largest that the loader was made for")
    if numbers["vocab"] < 196:
        raise cursor.fail(f"it has {numbers['vocab']} tokens, and Falcon's line ends are tokens 193 and 195")


def _check_vocabulary(cursor: Cursor, family: Family, vocabulary: LegacyVocabulary) -> None:
    """Mpt's loader decodes its tokens, and ends the process over one that is no UTF-8."""
    if family.name != "mpt":
        return
    for number, token in enumerate(vocabulary.tokens):
        try:
            token.decode()
        except UnicodeDecodeError:
            raise cursor.fail(f"token {number} is not UTF-8, as all are in an mpt model") from None


def tensor_head(cursor: Cursor) -> tuple[str, tuple[int, ...], int]:
    dimensions, length, kind = (int(cursor.number(_U32, "a tensor's head")) for _ in range(3))
    if not 1 <= dimensions <= 2 or length > 256:
        raise cursor.fail(f"a tensor claims {dimensions} dimensions and a name of {length} bytes")
    shape = tuple(int(cursor.number(_I32, "a tensor's shape")) for _ in range(dimensions))
    return cursor.take(length, "a tensor's name").decode(errors="replace"), shape, kind


def refused_types(version: int) -> frozenset[int]:
    """Tensor types whose layout changed after this version of ggjt (llama.cpp pull requests 1405 and 1508)."""
    return _SINCE_V2 if version < 2 else _SINCE_V3 if version < 3 else frozenset()

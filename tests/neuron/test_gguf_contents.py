"""A vocabulary is copied and read whole, so what a hostile file calls one is bounded: holes make it as long as its writer likes."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.gguf_bytes import ARRAY, LLAMA, STRING, U8, gguf, pair, pairs, text

from cortex.neuron.ggml import read_legacy
from cortex.neuron.ggml.vocabulary import MAX_TOKEN_BYTES
from cortex.neuron.gguf import GGUFError, read_header, write_vocabulary
from cortex.neuron.gguf.contents import read_contents

MEMORY_LIMIT = 100 << 20
HOLE = 256 << 20


@contextmanager
def in_little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY_LIMIT
    finally:
        tracemalloc.stop()


def _long_array(element: int, count: int) -> bytes:
    return text("tokenizer.ggml.more") + struct.pack("<IIQ", ARRAY, element, count)


def _with_hole(path: Path, last: bytes) -> Path:
    """A file whose last key has HOLE bytes, none of them on the disk."""
    tokens = pair("tokenizer.ggml.tokens", ["a", "b"])
    path.write_bytes(gguf([*pairs(LLAMA), tokens, last], alignment=1))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + HOLE)
    return path


LONG = {
    "a text": text("tokenizer.more") + struct.pack("<IQ", STRING, HOLE),
    "numbers": _long_array(U8, HOLE),
}


@pytest.mark.parametrize("last", LONG)
def test_a_vocabulary_without_end_is_not_copied(tmp_path, last):
    """The neuron itself copies vocabularies, to count tokens: a file must not be able to take its memory, or its runtime folder's."""
    path = _with_hole(tmp_path / "x.gguf", LONG[last])
    assert read_header(path).vocab_size == 2
    with in_little_memory(), pytest.raises(GGUFError, match="vocabulary"):
        write_vocabulary(path, tmp_path / "copy.gguf")
    assert (tmp_path / "copy.gguf").stat().st_blocks == 0


@pytest.mark.parametrize("last", LONG)
def test_a_header_without_end_is_not_read_whole(tmp_path, last):
    """An engine that has to know all of a header refuses one that is larger than any real one."""
    path = _with_hole(tmp_path / "x.gguf", LONG[last])
    with in_little_memory(), pytest.raises(GGUFError, match="accepted"):
        read_contents(path)


def _many_strings(path: Path) -> None:
    """Each as long as one may be."""
    array = text("tokenizer.ggml.more") + struct.pack("<IIQ", ARRAY, STRING, 256)
    path.write_bytes(gguf([*pairs(LLAMA), array], alignment=1))
    with path.open("r+b") as file:
        file.seek(0, 2)
        for _ in range(256):
            file.write(struct.pack("<Q", 1 << 20))
            file.seek(1 << 20, 1)
        file.truncate()


def _many_words(path: Path) -> None:
    """A legacy vocabulary of the longest words."""
    count = 1 << 16
    path.write_bytes(b"lmgg" + struct.pack("<6i", count, 128, 64, 4, 1, 0) + struct.pack("<I", count))
    with path.open("r+b") as file:
        file.seek(0, 2)
        for _ in range(count):
            file.write(struct.pack("<I", MAX_TOKEN_BYTES))
            file.seek(MAX_TOKEN_BYTES, 1)
        file.truncate()


@pytest.mark.parametrize(
    ("write", "read"), [(_many_strings, read_contents), (_many_words, read_legacy)], ids=["gguf", "legacy"]
)
def test_many_long_words_are_not_read_whole(tmp_path, write: Callable[[Path], None], read: Callable[[Path], object]):
    """Each of them is short enough, and all of them together are not."""
    path = tmp_path / "x.bin"
    write(path)
    with in_little_memory(), pytest.raises(GGUFError, match="accepted"):
        read(path)


@pytest.mark.parametrize("element", [2, 6], ids=["u16", "f32"])
def test_many_numbers_are_not_read_whole(tmp_path, element):
    """As numbers of Python they take ten times the room that they have in the file."""
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf([*pairs(LLAMA), _long_array(element, 14_000_000)], alignment=1))
    with path.open("r+b") as file:
        file.truncate(HOLE)
    with in_little_memory(), pytest.raises(GGUFError, match="claims 14000000 numbers, and at most"):
        read_contents(path)

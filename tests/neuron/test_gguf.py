"""neuron.gguf: what real files say, and that no file at all gets more than an error out of it."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from gguf.constants import GGML_QUANT_SIZES, LlamaFileType
from helpers.gguf_bytes import ARRAY, HOSTILE, LLAMA, STRING, U64, gguf, pair, pairs, tensor, text
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cortex.neuron.gguf import GGUFError, Header, Split, read_header
from cortex.neuron.gguf.facts import MAX_STRINGS
from cortex.neuron.gguf.tables import FILE_TYPES, TENSOR_TYPES

MEMORY_LIMIT = 50 << 20

Read = Callable[[bytes], Header]


@pytest.fixture(name="read")
def _read(tmp_path: Path) -> Read:
    path = tmp_path / "x.gguf"

    def read(content: bytes) -> Header:
        path.write_bytes(content)
        return read_header(path)

    return read


def llama(**more: object) -> bytes:
    facts = LLAMA | {f"llama.{key}": content for key, content in more.items()}
    return gguf(pairs(facts))


# ---- real files


def test_the_demo_model_is_described(demo_model):
    """A real model's header says what a harness has to know of it."""
    header = read_header(demo_model)
    assert (header.version, header.kind, header.architecture) == (3, "model", "llama")
    assert (header.context_length, header.block_count, header.embedding_length) == (8192, 30, 576)
    assert (header.head_count, header.kv_heads) == (9, (3,) * 30)
    assert (header.key_length, header.value_length, header.vocab_size) == (64, 64, 49152)
    assert (header.quant, header.tokenizer_model, header.size_label) == ("Q4_1", "gpt2", "135M")
    assert header.chat_template is not None
    assert header.chat_template.startswith("{% for message in messages %}")
    assert (header.tensor_count, header.tensor_bytes) == (272, 96_576_768)
    assert header.file_bytes == demo_model.stat().st_size
    assert not any((header.is_mmproj, header.is_adapter, header.is_embedding, header.is_rerank))


def test_the_scripted_model_is_described(scripted_model):
    """A file of the reference writer reads as it was written."""
    header = read_header(scripted_model)
    assert (header.name, header.quant, header.vocab_size, header.kv_heads) == ("scripted", "F16", 4256, (1,))
    assert (header.context_length, header.tensor_count, header.split) == (131072, 12, None)


def test_the_tables_are_those_of_the_reference_library():
    """Tensor sizes and file type names agree with the gguf package, as far as it goes."""
    reference = {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
    reference[9] = ("Q8_1", 32, 36)  # its C struct has two halves where the package still counts two floats
    assert {number: tuple(kind) for number, kind in TENSOR_TYPES.items()} == reference
    names = {int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in LlamaFileType}
    assert {number: name for number, name in names.items() if number != LlamaFileType.GUESSED} == FILE_TYPES


# ---- what the numbers mean


def test_heads_may_differ_from_layer_to_layer(read):
    """An array of heads is kept for key/value heads, and its largest number stands for the model's heads."""
    header = read(llama(**{"attention.head_count": [4, 8], "attention.head_count_kv": [0, 2]}))
    assert (header.head_count, header.head_count_kv, header.kv_heads) == (8, (0, 2), (0, 2))


def test_a_model_without_grouped_attention_has_as_many_kv_heads_as_heads(read):
    """Old files leave head_count_kv out."""
    facts = {key: content for key, content in LLAMA.items() if not key.endswith("_kv")}
    assert read(gguf(pairs(facts))).kv_heads == (4, 4)


def test_recurrent_layers_have_no_kv_heads(read):
    """With full_attention_interval only every n-th layer attends."""
    assert read(llama(block_count=8, full_attention_interval=4)).kv_heads == (0, 0, 0, 2, 0, 0, 0, 2)


@pytest.mark.parametrize(
    ("more", "slides"),
    [
        ({"attention.sliding_window": 512}, (False,) * 4),
        ({"attention.sliding_window_pattern": 2}, (False,) * 4),
        ({"attention.sliding_window": 512, "attention.sliding_window_pattern": 2}, (True, False) * 2),
        ({"attention.sliding_window": 512, "attention.sliding_window_pattern": [1, 1, 0]}, (True, True, False, False)),
        ({"attention.sliding_window": 512, "attention.sliding_window_pattern": [True, False]}, (True, *[False] * 3)),
        ({"attention.sliding_window": 512, "attention.sliding_window_pattern": 0}, (True,) * 4),
    ],
    ids=["a window alone", "a period alone", "a period", "flags", "booleans", "all"],
)
def test_which_layers_attend_to_a_window_is_the_files_to_say(read, more, slides):
    """A window without a pattern is for architectures that are known for one; llama's loader ignores it."""
    assert read(llama(block_count=4, **more)).slides == slides


def test_key_length_is_what_the_file_says_or_the_heads_share(read):
    """attention.key_length wins over embedding_length / head_count."""
    assert read(llama()).key_length == 16
    assert read(llama(**{"attention.key_length": 128})).key_length == 128


@pytest.mark.parametrize(
    ("facts", "tensors", "predicate"),
    [
        ({"general.architecture": "clip"}, [], "is_mmproj"),
        ({"general.type": "adapter"}, [], "is_adapter"),
        ({"general.architecture": "bert"}, [], "is_embedding"),
        ({"llama.pooling_type": 3}, [], "is_embedding"),
        ({"llama.pooling_type": 4}, [], "is_rerank"),
        ({"general.architecture": "bert"}, [tensor("cls.weight", [0])], "is_rerank"),
    ],
)
def test_a_header_hints_at_what_the_file_is_for(read, facts, tensors, predicate):
    """Projectors, adapters, embedding models and rerankers are told apart from chat models."""
    header = read(gguf(pairs(LLAMA | facts), tensors))
    hints = [name for name in ("is_mmproj", "is_adapter", "is_embedding", "is_rerank") if getattr(header, name)]
    assert hints == [predicate]


def test_the_quant_without_a_file_type_is_the_largest_tensors(read):
    """A file that does not name its file type is called after the tensor type with most bytes."""
    tensors = [tensor("a", [256], 12), tensor("b", [1024], 8, 160), tensor("c", [16], 0, 1248)]
    header = read(gguf(pairs(LLAMA), tensors, b"\0" * 1312))
    assert (header.quant, header.tensor_bytes) == ("Q8_0", 144 + 1088 + 64)


def test_a_tensor_of_a_future_type_is_no_error(read):
    """What a newer converter writes is listed, with the file's size for its tensors'."""
    header = read(gguf(pairs(LLAMA), [tensor("a", [32], 999)], b"\0" * 32))
    assert (header.tensor_bytes, header.quant) == (header.file_bytes, None)


def test_the_further_parts_of_a_split_model_have_no_architecture(read):
    """Part 2 of 3 carries tensors and its number, nothing else."""
    header = read(gguf(pairs({"split.no": 1, "split.count": 3, "split.tensors.count": 9})))
    assert (header.split, header.architecture) == (Split(1, 3), "")


def test_texts_that_are_not_utf8_are_no_error(read):
    """Real files hold raw bytes in texts; they become replacement characters."""
    header = read(gguf([*pairs({"general.architecture": "llama"}), pair("general.name", b"\xff\xfeok")]))
    assert header.name == "\ufffd\ufffdok"


# ---- files that are wrong


TOO_MANY = struct.pack("<Q", HOSTILE)
HOSTILE_FILES = {
    "empty": (b"", "ends inside the magic"),
    "another format": (b"PK\x03\x04" + b"\0" * 60, "begins with b'PK"),
    "a page of HTML": (b"<!DOCTYPE html>" * 9, "begins with b'<!DO"),
    "version 1": (gguf([], version=1), "version 1"),
    "version 99": (gguf([], version=99), "version 99"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "keys without end": (gguf([], key_count=HOSTILE), "claims 1152921504606846976 keys"),
    "tensors without end": (gguf(pairs(LLAMA), tensor_count=HOSTILE), "claims 1152921504606846976 tensors"),
    "a long key": (gguf([TOO_MANY]), "a key claims"),
    "a long text": (
        gguf([text("general.name") + struct.pack("<I", STRING) + TOO_MANY]),
        "general.name claims 1152921504606846976 bytes",
    ),
    "an architecture of a page": (gguf(pairs({"general.architecture": "x" * 2000})), "architecture claims 2000 bytes"),
    "a key with a line of a log": (
        gguf([text("x\n12:00 INFO all is well") + struct.pack("<I", 13)]),
        "x\ufffd12:00 INFO",
    ),
    "a long unread text": (
        gguf([text("general.url") + struct.pack("<I", STRING) + TOO_MANY]),
        "ends inside general.url",
    ),
    "strings without end": (
        gguf([text("tokenizer.ggml.tokens") + struct.pack("<II", ARRAY, STRING) + TOO_MANY]),
        "claims 1152921504606846976 strings",
    ),
    "a token without end": (
        gguf([text("tokenizer.ggml.tokens") + struct.pack("<IIQ", ARRAY, STRING, 2) + TOO_MANY + b"\0" * 64]),
        "ends inside tokenizer.ggml.tokens",
    ),
    "a token beyond 63 bits": (
        gguf([text("tokenizer.ggml.tokens") + struct.pack("<IIQ", ARRAY, STRING, 3) + b"\xff" * 64]),
        "ends inside tokenizer.ggml.tokens",
    ),
    "numbers without end": (
        gguf([text("tokenizer.ggml.scores") + struct.pack("<II", ARRAY, U64) + TOO_MANY]),
        "ends inside tokenizer.ggml.scores",
    ),
    "heads without end": (
        gguf([text("llama.attention.head_count") + struct.pack("<II", ARRAY, U64) + TOO_MANY]),
        "ends inside llama.attention.head_count",
    ),
    "nested arrays": (
        gguf([text("x") + struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 1000]),
        "array of arrays",
    ),
    "an unknown type": (gguf([text("x") + struct.pack("<I", 13)]), "unknown type 13"),
    "a key twice": (gguf([*pairs(LLAMA), pair("general.name", "again")]), "'general.name' stands there twice"),
    "no architecture": (gguf(pairs({"general.name": "x"})), "names no architecture"),
    "a truth for a number": (llama(context_length=True), "llama.context_length is True"),
    "a number for a text": (gguf(pairs({"general.architecture": 7})), "general.architecture is 7"),
    "a fraction of a layer": (llama(block_count=1.5), "llama.block_count is 1.5"),
    "layers without end": (llama(block_count=1 << 31), "llama.block_count is 2147483648"),
    "a part beyond the count": (gguf(pairs(LLAMA | {"split.no": 3, "split.count": 3})), "split.count is 3"),
    "an odd alignment": (gguf(pairs(LLAMA | {"general.alignment": 33})), "no power of two"),
    "a tensor twice": (gguf(pairs(LLAMA), [tensor("a", [1])] * 2), "'a' stands there twice"),
    "five dimensions": (gguf(pairs(LLAMA), [tensor("a", [1] * 5)]), "claims 5 dimensions"),
    "a huge tensor": (gguf(pairs(LLAMA), [tensor("a", [1 << 63] * 4)]), "tensor 'a' ends at byte"),
    "a tensor far away": (gguf(pairs(LLAMA), [tensor("a", [1], offset=HOSTILE)]), "tensor 'a' ends at byte"),
    "half a block": (gguf(pairs(LLAMA), [tensor("a", [33], 8)], b"\0" * 99), "Q8_0 stores blocks of 32"),
    "overlapping tensors": (
        gguf(pairs(LLAMA), [tensor("a", [64]), tensor("b", [64])], b"\0" * 256),
        "they claim 512 bytes, the file has 256",
    ),
}


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_a_hostile_file_gets_an_error_that_says_what_is_wrong(read, name):
    """Whatever lengths a file claims, the answer is a GGUFError about it, in little memory."""
    content, reason = HOSTILE_FILES[name]
    with pytest.raises(GGUFError) as caught:
        bounded(lambda: read(content))
    assert reason in str(caught.value)


def test_an_error_knows_the_byte(read):
    """The offset is where the file goes wrong."""
    sound = gguf(pairs(LLAMA))
    with pytest.raises(GGUFError, match="at byte 24: a key claims") as caught:
        read(sound[:24] + b"\xff" * 100)
    assert caught.value.offset == 24


def test_a_download_that_broke_off_is_found(demo_model, tmp_path):
    """A file without its last byte is no model, and the error says where it should have ended."""
    path = tmp_path / "cut.gguf"
    with demo_model.open("rb") as whole, path.open("wb") as cut:
        cut.write(whole.read(2 << 20))
        cut.truncate(demo_model.stat().st_size - 1)
    with pytest.raises(GGUFError, match=r"cut off: tensor 'output_norm.weight' ends at byte 98362432"):
        read_header(path)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    """A folder, a FIFO and a missing file give errors; opening the FIFO does not wait for a writer."""
    os.mkfifo(tmp_path / "fifo.gguf")
    with pytest.raises(GGUFError, match="no regular file"):
        read_header(tmp_path / "fifo.gguf")
    with pytest.raises(GGUFError, match="directory"):
        read_header(tmp_path)
    with pytest.raises(GGUFError, match="No such file"):
        read_header(tmp_path / "missing.gguf")


def bounded(work: Callable[[], Header]) -> Header:
    """Run `work` and hold it to the memory limit, also when it raises."""
    tracemalloc.start()
    try:
        return work()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY_LIMIT, peak


def test_the_largest_vocabularies_are_counted_in_little_memory(read):
    """A file with 2^20 strings, the most that is accepted, needs no memory for them. The time is printed, not judged."""
    tokens, merges = ["token"] * 262_144, ["mer ges"] * (MAX_STRINGS - 262_144)
    content = gguf(pairs(LLAMA | {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": merges}))
    began = time.perf_counter()
    header = read(content)
    print(f"{MAX_STRINGS} strings, {len(content) >> 20} MiB: {(time.perf_counter() - began) * 1000:.0f} ms")
    assert header.vocab_size == 262_144
    del tokens, merges
    assert bounded(lambda: read(content)).vocab_size == 262_144


def test_the_most_names_that_are_accepted_fit_the_limit(read):
    """Names are remembered to find doubles; the most and longest of them stay far below the limit."""
    keys = [pair(f"{number:0>256}", 1) for number in range((1 << 13) - len(LLAMA))]
    tensors = [tensor(f"{number:0>256}", [0]) for number in range(1 << 15)]
    content = gguf([*pairs(LLAMA), *keys], tensors)
    assert bounded(lambda: read(content)).tensor_count == 1 << 15


SMALL = gguf(
    [
        *pairs(
            LLAMA | {"tokenizer.ggml.tokens": ["a", "b", "c"], "llama.pooling_type": 1, "split.no": 0, "split.count": 2}
        )
    ],
    [tensor("token_embd.weight", [64]), tensor("output.weight", [32, 2], 8, 256)],
    b"\0" * 324,
)
fuzzed = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def header_or_error(read: Read, content: bytes) -> None:
    try:
        header = bounded(lambda: read(content))
    except GGUFError:
        return
    assert isinstance(header, Header)
    assert len(header.kv_heads) <= 1 << 12


@fuzzed
@given(
    noise=st.binary(max_size=2000), version=st.sampled_from([2, 3]), keys=st.integers(0, 4), tensors=st.integers(0, 4)
)
def test_noise_behind_the_magic_is_a_header_or_an_error(read, noise, version, keys, tensors):
    """Random bytes never get anything else out of the reader."""
    header_or_error(read, b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + noise)


@fuzzed
@given(flips=st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=8))
@example(flips=[])
def test_a_mutated_header_is_a_header_or_an_error(read, flips):
    """Bytes changed anywhere in a sound file never get anything else out of the reader."""
    content = bytearray(SMALL)
    for at, byte in flips:
        content[at] = byte
    header_or_error(read, bytes(content))


@fuzzed
@given(
    at=st.integers(0, len(SMALL) - 8),
    length=st.sampled_from([0, 1, 1 << 31, 1 << 32, 1 << 60, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]),
)
def test_a_length_that_lies_is_a_header_or_an_error(read, at, length):
    """A hostile number written over any eight bytes never gets anything else out of the reader."""
    header_or_error(read, SMALL[:at] + struct.pack("<Q", length) + SMALL[at + 8 :])


def test_every_truncation_is_an_error(read):
    """No proper beginning of a sound file passes for one."""
    assert read(SMALL).tensor_count == 2
    for length in range(len(SMALL)):
        with pytest.raises(GGUFError):
            read(SMALL[:length])


def test_a_model_that_fills_in_middles_is_known_by_its_vocabulary(scripted_model, demo_model):
    """By its own spelling of the three tokens; a model that was not taught so has none."""
    assert read_header(scripted_model).fim == ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    assert read_header(demo_model).fim is None

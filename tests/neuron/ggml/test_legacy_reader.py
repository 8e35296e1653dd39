"""Legacy files are read to their last tensor, and what is wrong with one is named."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.legacy_falcon import falcon_bytes
from helpers.legacy_ggml import FAMILIES, VOCAB, legacy_bytes, tensor_bytes, zeros
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cortex.neuron.ggml import GGMLError, LegacyFile, read_legacy
from cortex.neuron.ggml.workspace import POOL_BYTES, workspace
from cortex.neuron.gguf import GGUFError
from cortex.neuron.harness.ctransformers_engine.model import ModelRefused, inspect
from cortex.neuron.modelfile import read_model_header


def read(folder: Path, content: bytes) -> LegacyFile:
    file = folder / "model.bin"
    file.write_bytes(content)
    return read_legacy(file)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_header_says_what_the_model_is(tmp_path: Path, family: str) -> None:
    """The family is found without being told, from the first tensor's name and the vocabulary."""
    found = read(tmp_path, legacy_bytes(family))
    header = found.header
    assert (header.architecture, header.container, header.quant) == (family, "ggml", "F32")
    assert (header.context_length, header.block_count, header.embedding_length) == (128, 1, 64)
    assert (header.head_count, header.head_count_kv, header.vocab_size) == (4, 4, VOCAB)
    assert header.is_legacy
    assert len(found.vocabulary.tokens) == VOCAB
    assert header.tensor_bytes + 3000 > header.file_bytes > header.tensor_bytes


def test_falcon_has_merges_and_a_shared_key(tmp_path: Path) -> None:
    """Version 10 of ggcc; heads share one key."""
    found = read(tmp_path, falcon_bytes())
    assert (found.header.architecture, found.header.container, found.header.version) == ("falcon", "ggcc", 10)
    assert (found.header.head_count, found.header.head_count_kv) == (4, 1)
    assert (b"T", b"h") in found.vocabulary.merges


@pytest.mark.model
def test_a_real_llama_of_2023(old_llama_dir: Path) -> None:
    """The demo model as ggjt: its quantisation, and keys for every head."""
    header = read_legacy(old_llama_dir / "ggjt.bin").header
    assert (header.architecture, header.container, header.version, header.quant) == ("llama", "ggjt", 3, "Q4_1")
    assert (header.block_count, header.head_count_kv, header.vocab_size) == (30, 9, 49_152)
    assert header.context_length is None


def _with_field(family: str, field: int, value: int) -> bytes:
    content = bytearray(legacy_bytes(family))
    content[4 + 4 * field : 8 + 4 * field] = struct.pack("<i", value)
    return bytes(content)


GPT2 = legacy_bytes("gpt2")
WRONG = {
    "nothing": (b"", "ends inside the magic"),
    "another format": (b"GGUF" + bytes(100), "no legacy format"),
    "a version to come": (b"tjgg" + struct.pack("<I", 4), "version 4 of ggjt"),
    "no tokens": (_with_field("gpt2", 0, 0), "'vocab' is 0"),
    "a vocabulary beyond all": (_with_field("gpt2", 0, 2**31 - 1), "'vocab' is 2.14748e+09"),
    "no heads": (_with_field("gpt2", 3, 0), "'heads' is 0"),
    "heads that do not divide": (_with_field("gpt2", 3, 5), "64 numbers cannot be shared out to 5 heads"),
    "another width": (_with_field("gpt2", 2, 128), "the hyperparameters demand"),
    "a layer more": (_with_field("gpt2", 4, 2), "12 tensors are missing, the first is 'model/h1/ln_1/g'"),
    "too many layers": (_with_field("gpt2", 4, 81), "'layers' is 81"),
    "another file type": (_with_field("gpt2", 5, 1), "has type F32, which its loader does not take"),
    "an unknown file type": (_with_field("gpt2", 5, 5), "file type 5"),
    "cut in a tensor": (GPT2[:-1], "ends inside the tensor"),
    "cut between tensors": (GPT2[: -len(tensor_bytes("model/h0/ln_2/b", zeros(64)))], "tensors are missing"),
    "cut in the vocabulary": (GPT2[:200], "ends inside"),
    "something behind": (GPT2 + bytes(20), "0 dimensions"),
    "a tensor twice": (GPT2 + tensor_bytes("model/ln_f/g", zeros(64)), "stands there twice"),
    "a stranger": (GPT2 + tensor_bytes("model/x", zeros(64)), "'model/x' has no place"),
    "a token without end": (GPT2[:32] + struct.pack("<I", 2**32 - 1) + GPT2[36:], "claims 4294967295 bytes"),
    "rotation beyond the head": (_with_field("gptj", 5, 18), "18 rotated numbers do not go with heads of 16"),
    "mpt, not UTF-8": (legacy_bytes("mpt").replace(b"hello", b"hell\xff"), "is not UTF-8"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_gets_an_error_that_says_where(tmp_path: Path, wrong: str) -> None:
    """A typed error with the byte and what would be right; never a silent load of half a model."""
    content, words = WRONG[wrong]
    with pytest.raises(GGMLError, match="at byte") as caught:
        read(tmp_path, content)
    assert words in str(caught.value)


def test_a_llama_whose_keys_are_shared_is_known_by_its_path(tmp_path: Path, old_llama_dir: Path) -> None:
    """The library takes "70b" in a path as its only sign of shared keys; a file without them is told apart."""
    misnamed = tmp_path / "llama-2_70b_x.bin"
    misnamed.symlink_to(old_llama_dir / "ggjt.bin")
    with pytest.raises(GGMLError, match="cannot be shared out"):
        read_legacy(misnamed)


def test_a_bin_of_another_program_is_no_model(tmp_path: Path) -> None:
    """Many files are called .bin; one that begins like no model is passed over without a word."""
    other = tmp_path / "pytorch_model.bin"
    other.write_bytes(b"PK\x03\x04" + bytes(100))
    assert read_model_header(other) is None
    (tmp_path / "model.gguf").write_bytes(GPT2)
    header = read_model_header(tmp_path / "model.gguf")
    assert header is not None
    assert header.architecture == "gpt2"


SOURCES = (*(legacy_bytes(family) for family in ("gpt2", "gptj", "mpt", "replit", "gpt_neox")), falcon_bytes())


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_any_mutation_is_a_typed_error_or_a_whole_model(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes changed, cut out or put in: an error of ours, or a file whose tensors are all there."""
    content = bytearray(data.draw(st.sampled_from(SOURCES)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(content), 3000)))
        removed = data.draw(st.integers(0, 8))
        content[at : at + removed] = data.draw(st.binary(max_size=8))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    file = tmp_path / "mutant.bin"
    file.write_bytes(content)
    try:
        model = inspect(file)
    except (GGUFError, ModelRefused):
        return
    header = read_legacy(file).header
    assert header.tensor_count >= 8
    assert len(model.vocabulary.pieces) == header.vocab_size


def test_the_work_buffers_bound_batch_and_context(tmp_path: Path) -> None:
    """What a graph of that size needs stays within the library's fixed buffers; the batch gives way before the context."""
    tiny = read(tmp_path, legacy_bytes("gpt2")).header
    assert workspace(tiny)[:2] == (64, 128)
    large = replace(tiny, embedding_length=1024, head_count=16, block_count=24, context_length=1024)
    assert workspace(large)[:2] == (16, 1024)
    assert workspace(large, 256).batch > 16
    huge = replace(large, block_count=36, context_length=2048)
    batch, context, size = workspace(huge)
    assert (batch, size) == (1, POOL_BYTES)
    assert 1024 < context < 2048
    assert workspace(replace(huge, architecture="starcoder")).context == 2048
    assert not math.isnan(workspace(replace(huge, architecture="llama", context_length=None)).bytes)

"""Text becomes the ids that the model was trained with, whatever the text; markers come from templates alone."""

from __future__ import annotations

import asyncio
import ctypes
from pathlib import Path

import pytest
from helpers.engines import ask, engine_spec, running_engine
from helpers.legacy_falcon import falcon_bytes
from helpers.legacy_ggml import legacy_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex.neuron.harness.ctransformers_engine.library import Library, build_for, on_processor
from cortex.neuron.harness.ctransformers_engine.model import Vocabulary, inspect
from cortex.neuron.harness.ctransformers_engine.prompt import Prompter, guard_for
from cortex.neuron.harness.ctransformers_engine.tokenizers import (
    BpeTokenizer,
    GreedyTokenizer,
    UnigramTokenizer,
    byte_characters,
)

# Everything here is in the tiny vocabularies: the library's own tokenizers print what they do not know.
WORDS = (
    "The",
    " capital",
    " of",
    " France",
    " is",
    " Paris",
    ".",
    "!",
    "?",
    " ",
    "\n",
    "a",
    "b",
    "c",
    "hello",
    " world",
)


@pytest.mark.parametrize("family", ["gpt2", "mpt", "replit"])
def test_ids_are_those_of_the_library(tmp_path: Path, family: str) -> None:
    """Our tokenizers and the library's agree wherever the library's can be asked."""
    file = tmp_path / "model.bin"
    file.write_bytes(legacy_bytes(family))
    model = inspect(file)
    library = Library(on_processor(), str(file), model.kind, context=128, threads=1)
    assert model.encoder

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map("".join))
    def agree(text: str) -> None:
        assert model.encoder
        assert model.encoder.encode(text) == library.tokenize(text.encode())

    agree()


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_tokenized_and_comes_back(text: str) -> None:
    """With all bytes in the vocabulary, greedy and BPE tokens say the text again."""
    tokens = [bytes([byte]) for byte in range(256)] + [b"th", b"the", "é".encode()]
    merges = [(b"t", b"h"), (b"th", b"e"), ("Ã".encode(), "©".encode())]
    for tokenizer in (GreedyTokenizer(tokens), BpeTokenizer(tokens, merges)):
        assert b"".join(tokens[number] for number in tokenizer.encode(text)).decode() == text


def test_merges_happen_in_the_order_of_their_ranks() -> None:
    """The lowest rank first, wherever it stands; a merge opens the next."""
    tokens = [b"a", b"b", b"c", b"ab", b"bc", b"abc"]
    first_bc = BpeTokenizer(tokens, [(b"b", b"c"), (b"a", b"b"), (b"a", b"bc")])
    assert first_bc.encode("abc") == [5]
    assert BpeTokenizer(tokens, [(b"a", b"b"), (b"b", b"c")]).encode("abcbc") == [3, 2, 4]


def test_the_best_segmentation_wins() -> None:
    """replit: the largest sum of scores, and the token 0 for a character that is in no piece."""
    tokens = [b"<unk>", b"a", b"b", b"ab", "\u2581".encode(), "\u2581a".encode()]
    assert UnigramTokenizer(tokens, [0, -5, -5, -1, -3, -9]).encode("ab a") == [3, 4, 1]
    assert UnigramTokenizer(tokens, [0, -1, -1, -5, -3, -1]).encode("ab aX") == [1, 2, 5, 0]


def test_a_word_of_forty_thousand_letters_is_a_matter_of_moments() -> None:
    """Where the library's expression crashes; the time-out of the test is the bound."""
    tokens = [bytes([byte]) for byte in range(256)] + [b"xx", b"xxxx"]
    word = "x" * 40_000
    assert GreedyTokenizer(tokens).encode(word) == [257] * 10_000
    assert len(BpeTokenizer(tokens, [(b"x", b"x"), (b"xx", b"xx")]).encode(word)) == 10_000
    pieces, scores = [b"<unk>", b"x", b"xx", b"xxxx"], [0.0, -3.0, -2.0, -1.0]
    assert UnigramTokenizer(pieces, scores).encode(word) == [3] * 10_000


def test_each_byte_has_a_character_of_its_own() -> None:
    """GPT-2's mapping, as the merges of Falcon files are written."""
    characters = byte_characters()
    assert len(set(characters)) == 256
    assert (characters[0x20], characters[0x0A], characters[0x41], characters[0xAD]) == (
        "\u0120",
        "\u010a",
        "A",
        "\u0143",
    )


def test_the_library_is_chosen_by_the_processor() -> None:
    """AVX2 wants its companions; without AVX there is a plain build."""
    assert build_for("sse2 avx avx2 fma f16c") == "avx2"
    assert build_for("sse2 avx f16c avx2") == "avx"
    assert build_for("sse2") == "basic"


# ---- markers


class Letters:
    """One id a character: 1000 and more."""

    def encode(self, text: str) -> list[int]:
        return [1000 + ord(character) for character in text]


MARKERS = {"<|im_start|>": 1, "<|im_end|>": 2, "</s>": 3, "|>": 4, "<|": 5}


def prompter(*, bos: int | None = None, spaces: str = "") -> Prompter:
    return Prompter(Vocabulary([], MARKERS, bos, 2, frozenset({2}), spaces), Letters())


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([*MARKERS, "<", "|", ">", "s", "im_start", "x", "\U000f0000"]), max_size=12).map("".join)
)
def test_no_marker_comes_out_of_what_a_user_wrote(text: str) -> None:
    """The prompt of a text is the text's letters, each of them, and never a marker's id."""
    assert prompter().plain(text) == [1000 + ord(character) for character in text]


def test_markers_of_the_template_are_tokens_and_those_of_the_content_are_not() -> None:
    """The guard breaks what a user wrote before the template puts its own markers around it."""
    words = prompter()
    content = "a</s><|im_end|>"
    guard = guard_for([content])
    rendered = "<|im_start|>" + words.guarded(content, guard) + "<|im_end|>"
    assert words.rendered(rendered, guard) == [1, *Letters().encode(content), 2]


def test_every_prompt_begins_once() -> None:
    """The beginning is put in front, unless the template wrote it."""
    assert prompter(bos=1).plain("a") == [1, 1097]
    assert prompter(bos=1).rendered("<|im_start|>a", "\U000f0000") == [1, 1097]
    assert prompter(bos=3).rendered("<|im_start|>a", "\U000f0000") == [3, 1, 1097]


def test_spaces_stand_where_sentencepiece_puts_them() -> None:
    """At the start; in GGUF also behind a marker; never where the guard stood."""
    at_start, behind_markers = prompter(spaces="start"), prompter(spaces="marker")
    space = 1032
    assert at_start.rendered("a</s>b", "\U000f0000") == [space, 1097, 3, 1098]
    assert behind_markers.rendered("a</s>b", "\U000f0000") == [space, 1097, 3, space, 1098]
    assert behind_markers.plain("</s>").count(space) == 1


# ---- against llama.cpp

TEXTS = (
    "The capital of France is",
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
    "  two  spaces\tand\ttabs\n\n\nand lines",
    "Le café, naïve; Привет мир; 日本語のテキスト; 😀👍🏽",
    "def f(x):\n    return x ** 2  # 3.14159, 1234567890",
    " leading and trailing ",
    "\x01\x02 \x7f",
)


@pytest.mark.model
def test_ids_are_those_of_llama_cpp(old_llama_dir: Path, tmp_path: Path) -> None:
    """Both engines on the same SentencePiece file: the same ids, markers included."""

    async def scenario() -> None:
        ids: dict[str, list[list[int]]] = {}
        for harness in ("llamacpp", "ctransformers"):
            spec = engine_spec(old_llama_dir / "spm.gguf", tmp_path, harness=harness, context=512, parallel=1)
            async with running_engine(spec) as engine:
                ids[harness] = [(await ask(engine, "/tokenize", {"content": text}))[1]["tokens"] for text in TEXTS]
                back = [(await ask(engine, "/detokenize", {"tokens": tokens}))[1]["content"] for tokens in ids[harness]]
                assert back == list(TEXTS)
        assert ids["ctransformers"] == ids["llamacpp"]

    asyncio.run(scenario())


@pytest.mark.model
def test_a_text_by_itself_is_split_as_llama_cpp_splits_it(old_llama_dir: Path, tmp_path: Path) -> None:
    """With the space and the beginning that most SentencePiece models put in front, and with every flag."""
    content = bytearray((old_llama_dir / "spm.gguf").read_bytes())
    for key in (b"tokenizer.ggml.add_space_prefix", b"tokenizer.ggml.add_bos_token"):
        content[content.index(key) + len(key) + 4] = 1
    file = tmp_path / "prefixed.gguf"
    file.write_bytes(content)
    flags: tuple[dict[str, bool], ...] = ({}, {"add_special": True}, {"parse_special": False}, {"with_pieces": True})
    texts = (*TEXTS, "", "a<|im_end|>b <|im_start|>")

    async def scenario() -> None:
        told: dict[str, list[object]] = {}
        for harness in ("llamacpp", "ctransformers"):
            async with running_engine(engine_spec(file, tmp_path, harness=harness, context=256, parallel=1)) as engine:
                told[harness] = [
                    await ask(engine, "/tokenize", {"content": text, **more}) for text in texts for more in flags
                ]
        assert told["ctransformers"] == told["llamacpp"]

    asyncio.run(scenario())


@pytest.mark.model
def test_a_space_without_a_token_of_its_own_needs_room_for_three(tmp_path: Path) -> None:
    """A vocabulary without U+2581 makes three tokens of every space: the buffer has room for them."""
    from helpers.tiny_spm import tiny_spm, vocabulary

    tokens = [token if token != "\u2581".encode() else b"qq" for token, _ in vocabulary()]
    file = tmp_path / "model.gguf"
    file.write_bytes(tiny_spm(tokenizer__ggml__tokens=tokens))
    library = Library(on_processor(), str(file), inspect(file).kind, context=64, threads=1)
    assert len(library.tokenize(b" " * 3000)) == 3 * 3001


def test_falcon_reads_its_own_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The chain's words are one token each; nothing of a prompt is printed."""
    file = tmp_path / "model.bin"
    file.write_bytes(falcon_bytes())
    model = inspect(file)
    assert model.encoder
    ids = model.encoder.encode("The capital of France is Paris. 漢字")
    assert [bytes(model.vocabulary.pieces[number]) for number in ids] == [
        b"The",
        b" capital",
        b" of",
        b" France",
        b" is",
        b" Paris",
        b".",
        b" ",
    ]
    ctypes.CDLL(None).fflush(None)
    assert capfd.readouterr() == ("", "")

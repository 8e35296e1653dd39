"""The model of an engine: its file, vocabulary, tokenizer and the library together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.ggml import MAGICS, LegacyFile, read_legacy
from cortex.neuron.gguf.contents import Contents, read_contents
from cortex.neuron.gguf.header import read_header
from cortex.neuron.harness.ctransformers_engine.cuda import on_gpu
from cortex.neuron.harness.ctransformers_engine.library import Library, on_processor
from cortex.neuron.harness.ctransformers_engine.preflight import (
    BYTE,
    problems_of_gguf,
    problems_of_llama_bytes,
)
from cortex.neuron.harness.ctransformers_engine.tokenizers import (
    SPACE,
    BpeTokenizer,
    GreedyTokenizer,
    Tokenizer,
    UnigramTokenizer,
)

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # token types of GGUF
_MARKERS = re.compile(rb"<\|[\w-]{1,40}\|>|</?s>|<unk>|<pad>|\[PAD\]|<fim[-_](?:prefix|middle|suffix|pad)>")
_DOLLY = frozenset({b"### End", b"### Instruction:", b"### Response:"})
_ENDS = ("<|endoftext|>", "<|im_end|>", "<|end|>", "<|end_of_turn|>", "<|eot_id|>", "</s>", "### End")


class ModelRefused(ValueError):  # noqa: N818  reads as what happened
    """The file is nothing for this engine; the message says why."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What ids mean.

    pieces      the bytes that each token adds to the text; none for a marker
    markers     special tokens by their texts, which users may write without meaning them
    bos         the token that begins every prompt, None where the model has none
    eos         the token that ends a text
    ends        tokens after which nothing comes
    spaces      where SentencePiece puts a space in front: "start" of the prompt, also after a "marker", or ""
    """

    pieces: Sequence[bytes] = field(repr=False)
    markers: Mapping[str, int] = field(repr=False)
    bos: int | None
    eos: int
    ends: frozenset[int]
    spaces: str = ""

    def marker(self, number: int | None) -> str:
        return next((text for text, each in self.markers.items() if each == number), "")


@dataclass(frozen=True, slots=True)
class Model:
    """A file that may be loaded, or is: everything that is known without the library."""

    kind: str  # the library's "model_type"
    vocabulary: Vocabulary
    own_template: str | None
    encoder: Tokenizer | None  # None: the library's own is sound


def inspect(path: Path) -> Model:
    """Read a file as this engine will. Raises ModelRefused or GGUFError."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic in MAGICS:
        return _legacy(read_legacy(path))
    header = read_header(path)
    if header.architecture != "llama" or header.kind != "model" or header.split:
        raise ModelRefused(f"it is '{header.architecture}', and of GGUF only whole llama models are served")
    contents = read_contents(path)
    if problem := next(iter(problems_of_gguf(contents)), None):
        raise ModelRefused(problem)
    return Model("gguf", _gguf_vocabulary(contents), header.chat_template, None)


def load(spec: EngineSpec, model: Model) -> Library:
    """Raises LibraryError, whose reason is on standard error, and EngineFailed (backend) where a GPU is wanted and cannot be had."""
    native = on_gpu(spec.gpu_backend, spec.gpu_libraries) if spec.gpu_backend else on_processor()
    return Library(
        native,
        spec.model_path,
        model.kind,
        context=spec.context,
        threads=spec.threads,
        gpu_layers=spec.gpu_layers,
    )


# ---- GGUF


def _gguf_vocabulary(contents: Contents) -> Vocabulary:
    tokens = contents.strings["tokenizer.ggml.tokens"]
    kinds = contents.numbers["tokenizer.ggml.token_type"]
    markers = {
        token.decode(errors="replace"): number
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_CONTROL, _USER_DEFINED) and token
    }
    bos, eos = _number(contents, "bos", 1), _number(contents, "eos", 2)
    return Vocabulary(
        pieces=[_piece(token, int(kind)) for token, kind in zip(tokens, kinds, strict=True)],
        markers=markers,
        bos=bos if contents.flag("tokenizer.ggml.add_bos_token", default=True) else None,
        eos=eos,
        ends=_ends(markers, eos),
        spaces="marker" if contents.flag("tokenizer.ggml.add_space_prefix", default=True) else "",
    )


def _number(contents: Contents, name: str, default: int) -> int:
    number = contents.number(f"tokenizer.ggml.{name}_token_id")
    return default if number is None else number


def _piece(token: bytes, kind: int) -> bytes:
    if kind == BYTE:
        return bytes([int(token[3:5], 16)])
    return b"" if kind in (_CONTROL, _UNKNOWN) else token.replace(SPACE.encode(), b" ")


def _ends(markers: Mapping[str, int], eos: int) -> frozenset[int]:
    return frozenset({eos} | {markers[text] for text in _ENDS if text in markers})


# ---- legacy


def _legacy(file: LegacyFile) -> Model:
    kind, tokens = file.header.architecture, file.vocabulary.tokens
    if kind == "llama" and (problem := next(iter(problems_of_llama_bytes(tokens)), None)):
        raise ModelRefused(problem)
    pieces = _legacy_pieces(kind, tokens)
    markers = {
        piece.decode(errors="replace"): number
        for number, piece in enumerate(pieces)
        if _MARKERS.fullmatch(piece) or (kind == "dolly-v2" and piece in _DOLLY)
    }
    if kind == "llama":  # fixed by the format, whatever they are called
        markers |= {tokens[number].decode(errors="replace"): number for number in range(min(3, len(tokens)))}
    eos = {"llama": 2, "falcon": 11}.get(kind, markers.get("<|endoftext|>", 0))
    vocabulary = Vocabulary(
        pieces=_without(pieces, markers.values()),
        markers=markers,
        bos=1 if kind == "llama" else None,
        eos=eos,
        ends=_ends(markers, eos),
        spaces="start" if kind == "llama" else "",
    )
    return Model(kind, vocabulary, None, _encoder(file, pieces))


def _legacy_pieces(kind: str, tokens: Sequence[bytes]) -> list[bytes]:
    if kind == "mpt":  # its loader keeps the lowest byte of each character
        return [bytes(ord(character) & 0xFF for character in token.decode()) for token in tokens]
    if kind == "replit":
        return [token.replace(SPACE.encode(), b" ") for token in tokens]
    return list(tokens)


def _without(pieces: Sequence[bytes], markers: Iterable[int]) -> list[bytes]:
    silent = frozenset(markers)
    return [b"" if number in silent else piece for number, piece in enumerate(pieces)]


def _encoder(file: LegacyFile, pieces: Sequence[bytes]) -> Tokenizer | None:
    """No piece that is a marker's text may come out of a user's words: greedy and merged words never span one."""
    kind = file.header.architecture
    if kind == "llama":
        return None
    if kind == "replit":
        return UnigramTokenizer(file.vocabulary.tokens, file.vocabulary.scores)
    return BpeTokenizer(pieces, file.vocabulary.merges) if kind == "falcon" else GreedyTokenizer(pieces)

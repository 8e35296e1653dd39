"""The demo model with a SentencePiece vocabulary: a llama GGUF that the llama.cpp of September 2023 loads, and today's.

No weight is touched; the output matrix, tied in the source, is written out. The byte-level BPE vocabulary becomes one that
SentencePiece's greedy merging walks in the same order:

- text: byte-mapped characters decoded, a space as U+2581; a single byte that is no printable ASCII as `<0xNN>` (type BYTE)
- score: minus the rank of its merge; whitespace-only tokens a million lower, because GPT-2's splitter leaves the last
  space of a run to the word that follows
- a byte without a token takes over an unused control token: where one is missing, the old library ends the process
- tokens that are pieces of a character keep their raw bytes
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter, TokenType

SPACE = "\u2581"
_KEPT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_REWRITTEN = {
    "general.architecture",
    "general.description",
    "llama.rope.dimension_count",
    "tokenizer.ggml.model",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id",
}


class _Reader(GGUFReader):
    """Without numpy's bookkeeping for every slice of a mapped file, which takes most of the time."""

    def _get(self, *args: Any, **more: Any) -> Any:
        if isinstance(self.data, np.memmap):
            self.data = self.data.view(np.ndarray)  # type: ignore[assignment]
        return super()._get(*args, **more)


@functools.cache
def opened(source: Path) -> GGUFReader:
    """Read once for all that is made of it."""
    return _Reader(source)


class Token(NamedTuple):
    text: bytes
    kind: int
    score: float


def byte_decoder() -> dict[str, int]:
    """GPT-2's mapping of bytes to printable characters, backwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


def merge_ranks(merges: Sequence[str]) -> dict[str, int]:
    """The token that a merge makes → its rank; the first wins."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault("".join(merge.split(" ", 1)), rank)
    return ranks


def late(raw: bytes) -> int:
    return 0 if raw.strip() else 1_000_000


def missing_bytes(have: set[int]) -> list[int]:
    """Bytes without a token, those that occur in UTF-8 first."""
    return sorted(set(range(256)) - have, key=lambda byte: (not (byte < 0x80 or 0xC2 <= byte <= 0xF4), byte))


def _single(byte: int) -> Token:
    if byte == 0x20:
        return Token(SPACE.encode(), int(TokenType.NORMAL), 0.0)
    if 0x21 <= byte <= 0x7E:
        return Token(bytes([byte]), int(TokenType.NORMAL), 0.0)
    return Token(b"<0x%02X>" % byte, int(TokenType.BYTE), 0.0)


def spm_vocabulary(tokens: Sequence[str], kinds: Sequence[int], merges: Sequence[str], kept: set[int]) -> list[Token]:
    decoder, ranks = byte_decoder(), merge_ranks(merges)
    found, have = [], set()
    for token, kind in zip(tokens, kinds, strict=True):
        if kind != TokenType.NORMAL:
            found.append(Token(token.encode(), int(kind), 0.0))
            continue
        raw = bytes(decoder[character] for character in token)
        if len(raw) == 1:
            have.add(raw[0])
            found.append(_single(raw[0]))
        else:
            score = float(-1 - ranks.get(token, len(merges)) - late(raw))
            found.append(Token(raw.replace(b" ", SPACE.encode()), int(TokenType.NORMAL), score))
    free = [place for place, kind in enumerate(kinds) if kind == TokenType.CONTROL and place not in kept]
    for byte, place in zip(missing_bytes(have), free, strict=False):
        found[place] = Token(b"<0x%02X>" % byte, int(TokenType.BYTE), 0.0)
    assert len({token.text for token in found}) == len(found)
    return found


def write_spm_model(source: Path, target: Path) -> None:
    reader = opened(source)

    def get(key: str) -> Any:
        return reader.fields[key].contents()

    tokens = get("tokenizer.ggml.tokens")
    bos, eos = get("tokenizer.ggml.bos_token_id"), get("tokenizer.ggml.eos_token_id")
    kept = {tokens.index(token) for token in _KEPT} | {bos, eos}
    vocabulary = spm_vocabulary(tokens, get("tokenizer.ggml.token_type"), get("tokenizer.ggml.merges"), kept)
    writer = GGUFWriter(target, "llama")
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key not in _REWRITTEN:
            inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type=inner)
    writer.add_description("Modified copy: the vocabulary rewritten for SentencePiece, the output matrix written out.")
    writer.add_rope_dimension_count(get("llama.embedding_length") // get("llama.attention.head_count"))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([token.text for token in vocabulary])
    writer.add_token_scores([token.score for token in vocabulary])
    writer.add_token_types([token.kind for token in vocabulary])
    writer.add_bos_token_id(bos)
    writer.add_eos_token_id(eos)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    for name, tensor in (*tensors.items(), ("output.weight", tensors["token_embd.weight"])):
        writer.add_tensor(name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

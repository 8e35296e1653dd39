"""The tokens of a legacy file."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from cortex.neuron.ggml.families import Family
from cortex.neuron.gguf.cursor import Cursor

MAX_TOKEN_BYTES = 1 << 12
MAX_MERGES = 1 << 20
MAX_WHOLE = 1 << 25  # bytes of the vocabulary with its merges, which are kept; the largest real ones have 2 MiB

_U32 = struct.Struct("<I")
_F32 = struct.Struct("<f")


@dataclass(frozen=True, slots=True)
class LegacyVocabulary:
    """Tokens as the file has them, by their ids; scores (replit, llama, falcon) and merges (falcon) where there are any."""

    tokens: tuple[bytes, ...] = field(repr=False)
    scores: tuple[float, ...] = field(default=(), repr=False)
    merges: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)


def read_vocabulary(cursor: Cursor, family: Family, size: int) -> LegacyVocabulary:
    """Read `size` tokens."""
    if family.counted:
        count = _u32(cursor, "the vocabulary's length")
        if count != size:
            raise cursor.fail(f"the vocabulary has {count} tokens, and the hyperparameters say {size}")
    tokens, scores, end = [], [], cursor.offset + MAX_WHOLE
    for number in range(size):
        tokens.append(_word(cursor, f"token {number}", end))
        if family.scored:
            scores.append(float(cursor.number(_F32, f"the score of token {number}")))
    return LegacyVocabulary(tuple(tokens), tuple(scores), _merges(cursor, end) if family.merged else ())


def _merges(cursor: Cursor, end: int) -> tuple[tuple[bytes, bytes], ...]:
    count = _u32(cursor, "the number of merges")
    if count > MAX_MERGES:
        raise cursor.fail(f"it claims {count} merges, and at most {MAX_MERGES} are accepted")
    return tuple((_word(cursor, "a merge", end), _word(cursor, "a merge", end)) for _ in range(count))


def _word(cursor: Cursor, what: str, end: int) -> bytes:
    length = _u32(cursor, f"the length of {what}")
    if length > MAX_TOKEN_BYTES:
        raise cursor.fail(f"{what} claims {length} bytes, and at most {MAX_TOKEN_BYTES} are accepted")
    if cursor.offset + length > end:
        raise cursor.fail(f"the vocabulary has more than the {MAX_WHOLE} bytes that are accepted")
    return cursor.take(length, what)


def _u32(cursor: Cursor, what: str) -> int:
    return int(cursor.number(_U32, what))

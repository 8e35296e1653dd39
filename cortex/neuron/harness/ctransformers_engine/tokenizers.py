"""Tokenizers of the legacy families, over their files' vocabularies. They take any text, in time that grows with its length.

The library's own end the process on long words, drop or misread what they do not know, and print it. These give the same
ids wherever those give any (greedy, unigram), and the ids of the model's own tokenizer (Falcon's BPE).
"""

from __future__ import annotations

import heapq
import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from cortex import errors

SPACE = "\u2581"  # SentencePiece's

# GPT-2's splitter as ggml's example programs have it: bytes, ASCII classes.
_WORDS = re.compile(rb"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")
# And as GPT-2 has it: letters, digits, the rest, of all scripts.
_UNICODE_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


class Tokenizer(Protocol):
    """Text → ids. No text means a marker here: those have ids of their own (see `prompt`). Nothing is put in front of it."""

    def encode(self, text: str) -> list[int]: ...


class GreedyTokenizer:
    """gpt2, gptj, gpt_neox, dolly-v2, mpt, starcoder: of each word the longest known beginning, again and again."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._ids = {token: number for number, token in enumerate(tokens) if token}
        self._longest = max(map(len, self._ids), default=1)

    def encode(self, text: str) -> list[int]:
        return [number for word in _WORDS.findall(text.encode()) for number in self._word(word)]

    def _word(self, word: bytes) -> Iterator[int]:
        at = 0
        while at < len(word):
            for end in range(min(len(word), at + self._longest), at, -1):
                if (number := self._ids.get(word[at:end])) is not None:
                    yield number
                    at = end
                    break
            else:
                at += 1  # a byte that the vocabulary lacks


class UnigramTokenizer:
    """replit: the segmentation whose scores have the largest sum. An unknown character is the token 0."""

    _UNKNOWN = -1e6

    def __init__(self, tokens: Sequence[bytes], scores: Sequence[float]) -> None:
        self._pieces = {
            token.decode(errors="replace"): (number, score)
            for number, (token, score) in enumerate(zip(tokens, scores, strict=True))
            if token
        }
        self._longest = max(map(len, self._pieces), default=1)

    def encode(self, text: str) -> list[int]:
        text = text.replace(" ", SPACE)
        sums, starts, numbers = array("d", [0.0]), array("q", [0]), array("q", [0])  # for each end: of its last piece
        for end in range(1, len(text) + 1):
            best, start, number = max(self._ways(text, end, sums))
            sums.append(best)
            starts.append(start)
            numbers.append(number)
        ids, at = [], len(text)
        while at:
            ids.append(numbers[at])
            at = starts[at]
        return ids[::-1]

    def _ways(self, text: str, end: int, sums: Sequence[float]) -> Iterator[tuple[float, int, int]]:
        yield sums[end - 1] + self._UNKNOWN, end - 1, 0
        for start in range(max(0, end - self._longest), end):
            if (piece := self._pieces.get(text[start:end])) is not None:
                yield sums[start] + piece[1], start, piece[0]


class BpeTokenizer:
    """Falcon: GPT-2's byte-level BPE, merges in the order of their ranks."""

    def __init__(self, tokens: Sequence[bytes], merges: Sequence[tuple[bytes, bytes]]) -> None:
        self._ids = {token: number for number, token in enumerate(tokens)}
        self._characters = byte_characters()
        self._bytes = {character: byte for byte, character in enumerate(self._characters)}
        pairs = ((left.decode(errors="replace"), right.decode(errors="replace")) for left, right in merges)
        self._ranks: Mapping[tuple[str, str], int] = {pair: rank for rank, pair in reversed(list(enumerate(pairs)))}

    def encode(self, text: str) -> list[int]:
        words = ("".join(self._characters[byte] for byte in word.encode()) for word in _UNICODE_WORDS.findall(text))
        return [number for word in words for piece in self._merged(word) for number in self._numbers(piece)]

    def _numbers(self, piece: str) -> list[int]:
        """A piece, or its bytes where it is no token; a byte that the vocabulary lacks is left out."""
        raw = bytes(self._bytes[character] for character in piece)
        if (number := self._ids.get(raw)) is not None:
            return [number]
        return [self._ids[single] for byte in raw if (single := bytes([byte])) in self._ids]

    def _merged(self, word: str) -> Iterator[str]:
        """The pieces of a word: a linked list, and a heap of pairs that may be stale."""
        pieces: list[str] = list(word)
        after = [*range(1, len(word)), -1]
        before = list(range(-1, len(word) - 1))
        heap = [found for at in range(len(word) - 1) if (found := self._pair(pieces, at, at + 1))]
        heapq.heapify(heap)
        while heap:
            _, at, left, right = heapq.heappop(heap)
            follower = after[at]
            if pieces[at] != left or follower < 0 or pieces[follower] != right:
                continue
            pieces[at], pieces[follower] = left + right, ""
            after[at] = after[follower]
            if after[at] >= 0:
                before[after[at]] = at
            for one, other in ((before[at], at), (at, after[at])):
                if one >= 0 and other >= 0 and (found := self._pair(pieces, one, other)):
                    heapq.heappush(heap, found)
        yield from filter(None, pieces)

    def _pair(self, pieces: Sequence[str], at: int, follower: int) -> tuple[int, int, str, str] | None:
        left, right = pieces[at], pieces[follower]
        rank = self._ranks.get((left, right))
        return None if rank is None else (rank, at, left, right)


class LibraryTokenizer:
    """llama: the library's SentencePiece, which is sound once every byte has a token (see `preflight`).

    Its GGUF side puts a space in front of every text: a control character before it keeps that off. Neither side sees
    what follows a NUL: it is taken out, and its own token put there.
    """

    _SHIELD = "\x01"

    def __init__(self, tokenize: Callable[[bytes], list[int]], *, shielded: bool, nul: int | None) -> None:
        self._tokenize = tokenize
        self._shield = self._SHIELD if shielded else ""
        self._shield_ids = len(tokenize(self._shield.encode())) if shielded else 0
        self._nul = nul

    def encode(self, text: str) -> list[int]:
        first, *rest = text.split("\0")
        ids = self._piece(first)
        for piece in rest:
            if self._nul is None:
                raise errors.invalid_request("the prompt holds a NUL character, for which this model has no token")
            ids += [self._nul, *self._piece(piece)]
        return ids

    def _piece(self, text: str) -> list[int]:
        return self._tokenize((self._shield + text).encode())[self._shield_ids :] if text else []


def byte_characters() -> list[str]:
    """GPT-2's printable character for each byte."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]

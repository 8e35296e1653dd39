"""Text → token ids. Markers (`<|im_start|>`, `</s>`) are what a chat template wrote, never what a user wrote.

A user's text is marked before it goes into a template: a character that occurs nowhere (the guard) breaks every marker in
it after its first letter. In the rendered text, whole markers are the template's; where the guard stands the text is
taken apart, so that no tokenizer can put the marker together again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cortex.neuron.harness.ctransformers_engine.model import Vocabulary
from cortex.neuron.harness.ctransformers_engine.tokenizers import Tokenizer

_TOKEN_BYTES = 256  # of no real text is a token longer on average
_PRIVATE = range(0xF0000, 0xFFFFE)  # private use: 65,534 characters, of which one is in no text


class Part(NamedTuple):
    """A marker's id, or a piece of text and whether a marker (or nothing) stands before it."""

    text: str
    marker: int | None = None
    begins: bool = False


class Prompter:
    """Makes prompts for one vocabulary."""

    def __init__(self, vocabulary: Vocabulary, tokenizer: Tokenizer) -> None:
        self._vocabulary = vocabulary
        self._tokenizer = tokenizer
        longest_first = sorted((text for text in vocabulary.markers if len(text) > 1), key=len, reverse=True)
        self._markers = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        longest = max(map(len, (*vocabulary.pieces, *(text.encode() for text in vocabulary.markers))), default=1)
        self._token_bytes = max(1, min(longest, _TOKEN_BYTES))

    def plain(self, text: str) -> list[int]:
        """A prompt in a user's own words."""
        guard = guard_for([text])
        return self.rendered(self.guarded(text, guard), guard)

    def least(self, text: str) -> int:
        """How many tokens a text has at least, without splitting it."""
        return -(-len(text.encode()) // self._token_bytes)

    def guarded(self, text: str, guard: str) -> str:
        """`text` with every marker in it broken."""
        while self._markers.search(text):
            text = self._markers.sub(lambda found: found[0][0] + guard + found[0][1:], text)
        return text

    def rendered(self, text: str, guard: str) -> list[int]:
        """A prompt that a template made of guarded texts."""
        bos, ids = self._vocabulary.bos, self._ids(text, guard)
        return ids if bos is None or ids[:1] == [bos] else [bos, *ids]

    def text(self, text: str, *, special: bool = True, begin: bool = False) -> list[int]:
        """Ids of a text by itself, as `/tokenize` shows them. special: markers in it are markers; begin: with what begins a prompt."""
        bos, guard = self._vocabulary.bos, guard_for([text])
        ids = self._ids(text if special else self.guarded(text, guard), guard)
        return [bos, *ids] if begin and bos is not None else ids

    def _ids(self, text: str, guard: str) -> list[int]:
        ids: list[int] = []
        for part in self._parts(text, guard):
            ids += [part.marker] if part.marker is not None else self._encoded(part, at_start=not ids)
        return ids

    def _encoded(self, part: Part, *, at_start: bool) -> list[int]:
        spaced = part.begins and (
            self._vocabulary.spaces == "marker" or (self._vocabulary.spaces == "start" and at_start)
        )
        return self._tokenizer.encode(" " + part.text if spaced else part.text)

    def _parts(self, text: str, guard: str) -> Iterator[Part]:
        at = 0
        for found in self._markers.finditer(text):
            yield from _pieces(text[at : found.start()], guard)
            yield Part("", self._vocabulary.markers[found[0]])
            at = found.end()
        yield from _pieces(text[at:], guard)


def _pieces(text: str, guard: str) -> Iterator[Part]:
    for number, piece in enumerate(text.split(guard)):
        if piece:
            yield Part(piece, begins=number == 0)


def guard_for(texts: Iterable[str]) -> str:
    """A character that none of the texts has."""
    used = set().union(*texts)
    return next(chr(code) for code in _PRIVATE if chr(code) not in used)

"""Tokens' bytes → text: whole characters only, nothing that may still become a stop string, everything at the end. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class AnswerText:
    """The text of one answer as it grows. `stopped`: a stop string came, and what is after it is not told."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(filter(None, stops))
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.told = 0  # characters handed out
        self.decoded = 0  # characters known
        self.stopped = False

    def push(self, piece: bytes) -> str:
        """What can be told now."""
        return self._told(self._decoder.decode(piece))

    def end(self) -> str:
        """What was held back, when nothing more comes."""
        rest = self._told(self._decoder.decode(b"", final=True))
        held, self._held = self._held, ""
        self.told += len(held)
        return rest + held

    def _told(self, new: str) -> str:
        if self.stopped:
            return ""
        self.decoded += len(new)
        text = self._held + new
        found = min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=None)
        if found is not None:
            self.stopped, self._held = True, ""
            self.told += found
            return text[:found]
        sure = len(text) - self._maybe(text)
        self._held = text[sure:]
        self.told += sure
        return text[:sure]

    def _maybe(self, text: str) -> int:
        """How many last characters are the beginning of a stop string."""
        return max(
            (
                length
                for stop in self._stops
                for length in range(1, min(len(stop), len(text) + 1))
                if text.endswith(stop[:length])
            ),
            default=0,
        )

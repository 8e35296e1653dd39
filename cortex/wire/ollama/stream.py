"""A stream of chat completions, or of completions, as lines of JSON. A tool call is told when it is whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from cortex.errors import CortexError
from cortex.wire.chat.deltas import Broke, Usage
from cortex.wire.chat.turn import Change, Closed, Ended, Grew, Turn
from cortex.wire.ollama.answer import Clock, Object, call_of, ended, head, said
from cortex.wire.ollama.request import Asked


class StreamTranslator:
    """One answer, line by line. Every method returns the bytes to send now. `error` is what ended it badly, if something did."""

    def __init__(self, asked: Asked, clock: Clock | None = None) -> None:
        self.over = False
        self.error: CortexError | None = None
        self._asked = asked
        self._clock = clock or Clock()
        self._turn = Turn()
        self._arguments: list[str] = []

    def push(self, events: bytes) -> bytes:
        """Whole events of the engine's stream."""
        return self._translated(self._turn.push(events))

    def silence(self) -> bytes:
        """A line that says nothing: this form has no comments."""
        return b"" if self.over else self._line(said(self._asked) | {"done": False})

    def end(self) -> bytes:
        """The upstream is over: what was still to be said, once."""
        return self._translated(self._turn.end())

    def fail(self, error: CortexError) -> bytes:
        """The line that ends the stream."""
        if self.over:
            return b""
        self.over, self.error = True, error
        return orjson.dumps({"error": error.message}) + b"\n"

    def _translated(self, changes: Iterable[Change]) -> bytes:
        lines: list[bytes] = []
        for change in changes:
            if self.over:
                break
            try:
                lines += self._lines(change)
            except CortexError as error:
                lines.append(self.fail(error))
        return b"".join(lines)

    def _lines(self, change: Change) -> Iterator[bytes]:
        match change:
            case Grew(part, text) if part.kind == "tool":
                self._arguments.append(text)
            case Grew(part, text):
                self._clock.token()
                piece = said(self._asked, text) if part.kind == "text" else said(self._asked, thinking=text)
                yield self._line(piece | {"done": False})
            case Closed(part, cut) if part.kind == "tool":
                self._clock.token()
                arguments, self._arguments = "".join(self._arguments), []
                call = call_of(part.name, arguments, cut=cut)
                yield self._line(said(self._asked, calls=[call]) | {"done": False})
            case Ended(reason, _, usage, pieces):
                self.over = True
                last = said(self._asked) | ended(reason, usage or Usage(0, pieces), self._clock)
                yield self._line(last)
            case Broke(error):
                yield self.fail(error)

    def _line(self, fields: Object) -> bytes:
        return orjson.dumps(head(self._asked, self._clock) | fields) + b"\n"

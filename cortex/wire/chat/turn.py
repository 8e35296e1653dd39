"""A chat completions stream put in order: parts that open, grow and close one after the other, and exactly one end.

turn = Turn()
for change in turn.push(events): ...   # Opened, Grew, Closed, then Ended or Broke
for change in turn.end(): ...          # the stream is over: says what was still to be said, once

A part's arguments are never empty: a tool call without any grows by `{}`. After `Broke` no part is closed, because a half
tool call that looks whole would be carried out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cortex import errors
from cortex.wire.chat.deltas import Broke, Called, Counted, Delta, Done, Finished, Said, Usage, malformed, read

Kind = Literal["text", "reasoning", "tool"]


@dataclass(slots=True, eq=False)
class Part:
    """A piece of the assistant's turn. `id` (the engine's, perhaps empty) and `name` are a tool call's."""

    kind: Kind
    id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    part: Part


@dataclass(frozen=True, slots=True)
class Grew:
    part: Part
    text: str
    logprobs: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Closed:
    """`cut`: the bound on tokens ended the answer in this part."""

    part: Part
    cut: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """`reason` is OpenAI's finish_reason, `usage` is None when the engine told none; `pieces` of output are about its tokens."""

    reason: str
    stop: str | None
    usage: Usage | None
    pieces: int


Change = Opened | Grew | Closed | Ended | Broke


@dataclass(slots=True)
class _Call:
    """A tool call by its index. It opens when its name is known; until then its arguments are held."""

    part: Part
    held: str = ""
    opened: bool = False


class Turn:
    """One answer. It keeps the open part, the indices of tool calls, and counts: no text."""

    __slots__ = ("_calls", "_finished", "_is_empty", "_open", "_pieces", "_usage", "over")

    def __init__(self) -> None:
        self.over = False
        self._open: Part | None = None
        self._is_empty = True  # the open part
        self._calls: dict[int, _Call] = {}
        self._finished: Finished | None = None
        self._usage: Usage | None = None
        self._pieces = 0

    def push(self, events: bytes) -> Iterator[Change]:
        """What whole events change. After the end: nothing."""
        for delta in read(events):
            for change in self._take(delta):
                if self.over:
                    return
                self.over = isinstance(change, Ended | Broke)
                yield change

    def end(self) -> Iterator[Change]:
        """The upstream is over. Without a finish reason the answer is not whole, and that is an error."""
        if self.over:
            return
        if self._finished is None:
            self.over = True
            yield Broke(
                errors.upstream_failed("the model's answer broke off before its end", code="upstream_read_failed")
            )
            return
        yield from self._end()
        self.over = True

    def _take(self, delta: Delta) -> Iterator[Change]:
        match delta:
            case Said(kind, text, logprobs):
                self._pieces += 1
                yield from self._said(kind, text, logprobs)
            case Called():
                self._pieces += 1
                yield from self._called(delta)
            case Finished():
                self._finished = delta
                yield from self._close()
            case Counted(usage):
                self._usage = usage
            case Done():
                yield from self._end()
            case Broke():
                yield delta

    def _said(self, kind: Kind, text: str, logprobs: tuple[object, ...]) -> Iterator[Change]:
        part = self._open
        if part is None or part.kind != kind:
            part = Part(kind)
            yield from self._begin(part)
        yield Grew(part, text, logprobs)

    def _called(self, delta: Called) -> Iterator[Change]:
        call = self._call(delta)
        call.part.id = call.part.id or delta.id
        call.part.name = call.part.name or delta.name
        call.held += delta.arguments
        if not call.opened and call.part.name:
            call.opened = True
            yield from self._begin(call.part)
        if call.opened and call.held:
            yield self._grown(call)

    def _grown(self, call: _Call) -> Change:
        if self._open is not call.part:
            return Broke(malformed(f"the call of '{call.part.name}' goes on after another part began"))
        text, call.held = call.held, ""
        self._is_empty = self._is_empty and text.isspace()
        return Grew(call.part, text)

    def _call(self, delta: Called) -> _Call:
        """A piece without an index belongs to a new call if it names one, else to the last."""
        index = delta.index
        if index is None:
            index = len(self._calls) if delta.name or not self._calls else len(self._calls) - 1
        return self._calls.setdefault(index, _Call(Part("tool")))

    def _begin(self, part: Part) -> Iterator[Change]:
        yield from self._close()
        self._open, self._is_empty = part, True
        yield Opened(part)

    def _close(self) -> Iterator[Change]:
        part, self._open = self._open, None
        if part is None:
            return
        cut = self._finished is not None and self._finished.reason == "length"
        if part.kind == "tool" and self._is_empty:
            yield Grew(part, "{}")
        yield Closed(part, cut)

    def _end(self) -> Iterator[Change]:
        yield from self._close()
        if any(not call.opened for call in self._calls.values()):
            yield Broke(malformed("a tool call has no name"))
            return
        finished = self._finished or Finished("stop", None)
        reason = ended_by(finished.reason, called=bool(self._calls))
        yield Ended(reason, finished.stop, self._usage, self._pieces)


def ended_by(reason: str, *, called: bool) -> str:
    """A turn that called a tool ended for that, whatever the engine says; a bound on tokens is a bound."""
    if called and reason in ("stop", "function_call"):
        return "tool_calls"
    return reason

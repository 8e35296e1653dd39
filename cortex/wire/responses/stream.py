"""A chat completions stream as the official sequence of Responses events, numbered from 0:

response.created, response.in_progress, then each output item from `added` to `done`, then response.completed,
response.incomplete (a bound on tokens) or response.failed. There is no [DONE].
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from cortex.errors import CortexError
from cortex.wire import sse
from cortex.wire.chat.deltas import Broke, Usage
from cortex.wire.chat.turn import Change, Closed, Ended, Grew, Opened, Turn
from cortex.wire.responses.output import Event, Item, Output, Status
from cortex.wire.responses.response import Clock, ResponseDraft


class StreamTranslator:
    """One answer to the Responses `request`, event by event. Every method returns the bytes to send now.

    It keeps the whole output, because the last event repeats it. `error` is what ended the stream badly, if something did;
    `response` is what it ended with, if it ended well.
    """

    def __init__(self, request: Mapping[str, Any], *, response_id: str | None = None, now: Clock = time.time) -> None:
        self.over = False  # the last event was sent: nothing follows
        self.error: CortexError | None = None
        self.response: dict[str, Any] | None = None
        self._draft = ResponseDraft(request, response_id, now)
        self._turn = Turn()
        self._number = 0  # of the next event
        self._output: list[Item] = []
        self._item: Output | None = None

    def start(self) -> bytes:
        """response.created and response.in_progress, once: before the first token."""
        if self._number or self.over:
            return b""
        response = self._draft.in_progress()
        return self._sent(_lifecycle("created", response), _lifecycle("in_progress", response))

    def push(self, events: bytes) -> bytes:
        """Whole events of the engine's stream."""
        return self._translated(self._turn.push(events))

    def in_progress(self) -> bytes:
        """For a silence: an event that clients count as life."""
        if self.over:
            return b""
        return self.start() or self._sent(_lifecycle("in_progress", self._draft.in_progress()))

    def end(self) -> bytes:
        """The upstream is over: what was still to be said, once. An answer that broke off has failed."""
        return self._translated(self._turn.end())

    def fail(self, error: CortexError) -> bytes:
        """The last event, with the items that were done. The open one is not: half a function call must not look whole."""
        if self.over:
            return b""
        head = self.start()
        self.over, self.error = True, error
        return head + self._sent(_lifecycle("failed", self._draft.failed(error, self._output)))

    def _translated(self, changes: Iterable[Change]) -> bytes:
        pieces = [self.start()]
        for change in changes:
            if self.over:
                break
            pieces.append(self.fail(change.error) if isinstance(change, Broke) else self._sent(*self._events(change)))
        return b"".join(pieces)

    def _events(self, change: Opened | Grew | Closed | Ended) -> Iterator[Event]:
        match change:
            case Opened(part):
                self._item = self._draft.outputs.next(part)
                yield from self._item.opened()
            case Grew(_, text, logprobs) if self._item:
                yield from self._item.grow(text, logprobs)
            case Closed(_, cut) if self._item:
                status: Status = "incomplete" if cut else "completed"
                yield from self._item.closed(status)
                self._output.append(self._item.item(status))
            case Ended():
                yield self._ended(change)

    def _ended(self, end: Ended) -> Event:
        self.over = True
        usage = end.usage or Usage(0, end.pieces)  # an engine sends about one event a token
        self.response = self._draft.finished(end.reason, self._output, usage)
        return _lifecycle(self.response["status"], self.response)

    def _sent(self, *events: Event) -> bytes:
        return b"".join(self._numbered(event) for event in events)

    def _numbered(self, event: Event) -> bytes:
        number, self._number = self._number, self._number + 1
        return sse.event(orjson.dumps(event | {"sequence_number": number}), event["type"])


def _lifecycle(what: str, response: dict[str, Any]) -> Event:
    return {"type": f"response.{what}", "response": response}

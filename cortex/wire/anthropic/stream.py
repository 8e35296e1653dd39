"""A chat completions stream as Anthropic's events, in their order:

message_start, then for each block content_block_start, content_block_delta …, content_block_stop, then message_delta and
message_stop; `ping` in between, and `error` instead of what is left when something fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from cortex.errors import CortexError
from cortex.wire import sse
from cortex.wire.anthropic.answer import empty_block, new_message, stop_fields, tool_input, usage_fields
from cortex.wire.anthropic.ids import new_message_id
from cortex.wire.chat.deltas import Broke, Usage
from cortex.wire.chat.turn import Change, Closed, Ended, Grew, Opened, Part, Turn
from cortex.wire.errors import anthropic_body


class StreamTranslator:
    """One answer to the Messages `request`, event by event. Every method returns the bytes to send now.

    input_tokens   the prompt's tokens if they were counted; message_start tells them, and message_delta what the engine says
    request_id     for error events

    It keeps the arguments of the tool call that is open, and no text. `error` is what ended the stream badly, if something did.
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        *,
        input_tokens: int | None,
        request_id: str = "",
        message_id: str | None = None,
    ) -> None:
        self.over = False  # the last event was sent: nothing follows
        self.error: CortexError | None = None
        self._request = request
        self._request_id = request_id
        self._message_id = message_id or new_message_id()
        self._input_tokens = input_tokens or 0
        self._started = False
        self._index = -1  # of the newest block
        self._arguments: list[str] = []
        self._turn = Turn()

    def start(self) -> bytes:
        """message_start, once: before the first token, as the client's timers want it."""
        if self._started or self.over:
            return b""
        self._started = True
        usage = usage_fields(Usage(self._input_tokens, 0))
        return _event("message_start", message=new_message(self._request, self._message_id, usage))

    def push(self, events: bytes) -> bytes:
        """Whole events of the engine's stream."""
        return self._translated(self._turn.push(events))

    def ping(self) -> bytes:
        """For a silence: clients count this event as life."""
        return b"" if self.over else self.start() + _event("ping")

    def end(self) -> bytes:
        """The upstream is over: what was still to be said, once. An answer that broke off ends with an error."""
        return self._translated(self._turn.end())

    def fail(self, error: CortexError) -> bytes:
        """The error event that ends the stream. What is open stays open: a half tool call must not look whole."""
        if self.over:
            return b""
        self.over, self.error = True, error
        return sse.event(orjson.dumps(anthropic_body(error, self._request_id)), "error")

    def _translated(self, changes: Iterable[Change]) -> bytes:
        pieces = [self.start()]
        for change in changes:
            if self.over:
                break
            try:
                pieces.append(self._change(change))
            except CortexError as error:
                pieces.append(self.fail(error))
        return b"".join(pieces)

    def _change(self, change: Change) -> bytes:
        match change:
            case Opened(part):
                self._index += 1
                return _event("content_block_start", index=self._index, content_block=empty_block(part))
            case Grew(part, text):
                return self._delta(part, text)
            case Closed(part, cut):
                return self._stop(part, cut=cut)
            case Ended():
                return self._ended(change)
            case Broke(error):
                return self.fail(error)

    def _delta(self, part: Part, text: str) -> bytes:
        match part.kind:
            case "text":
                delta = {"type": "text_delta", "text": text}
            case "reasoning":
                delta = {"type": "thinking_delta", "thinking": text}
            case "tool":
                self._arguments.append(text)
                delta = {"type": "input_json_delta", "partial_json": text}
        return _event("content_block_delta", index=self._index, delta=delta)

    def _stop(self, part: Part, *, cut: bool) -> bytes:
        signature = b""
        if part.kind == "tool":
            arguments, self._arguments = "".join(self._arguments), []
            tool_input(part, arguments, cut=cut)
        if part.kind == "reasoning":
            delta = {"type": "signature_delta", "signature": ""}
            signature = _event("content_block_delta", index=self._index, delta=delta)
        return signature + _event("content_block_stop", index=self._index)

    def _ended(self, end: Ended) -> bytes:
        self.over = True
        usage = end.usage or Usage(self._input_tokens, end.pieces)  # an engine sends about one event a token
        delta = stop_fields(end.reason, end.stop, self._request)
        return _event("message_delta", delta=delta, usage=usage_fields(usage)) + _event("message_stop")


def _event(name: str, **fields: Any) -> bytes:
    """An event whose name is its data's type: clients look at either."""
    return sse.event(orjson.dumps({"type": name, **fields}), name)

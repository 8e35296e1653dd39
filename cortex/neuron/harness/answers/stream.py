"""Chunks → the events of a streaming client."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from cortex.errors import CortexError
from cortex.neuron.harness.answers.events import Json, Reader, unfinished
from cortex.neuron.harness.answers.usage import UsageSum
from cortex.wire.sse import event

_END = b"data: [DONE]"


class StreamAnswer:
    """A translation (`harness.base`). After the first token, events pass unparsed where nothing in them is to be corrected.

    roles          how many choices are opened with a role, before the first token and not from it
    verbatim       one choice without corrections
    usage          sums up what is told; None: nothing is
    usage_asked    the client wants the sum as a chunk of its own
    """

    whole = False

    def __init__(self, reader: Reader, *, roles: int, verbatim: bool, usage: UsageSum, usage_asked: bool) -> None:
        self.begun = False
        self.failure: CortexError | None = None
        self._reader = reader
        self._roles = roles
        self._verbatim = verbatim
        self._usage = usage
        self._usage_asked = usage_asked
        self._ended = False

    def push(self, events: bytes) -> bytes:
        if self.begun and self._verbatim and not _special(events):
            self._ended = self._ended or _END in events
            return events
        passed = bytearray()
        try:
            for piece in self._reader.read(events):
                passed += self._passed(piece)
        except CortexError as error:
            self.failure = error
        return bytes(passed)

    def end(self) -> bytes:
        if self.failure or not self._ended:
            raise self.failure or unfinished()
        return b""

    def _passed(self, piece: bytes | Json) -> bytes:
        if isinstance(piece, bytes):
            self._ended = self._ended or piece.startswith(_END)
            return piece
        return b"".join(event(orjson.dumps(chunk)) for chunk in self._chunks(piece))

    def _chunks(self, chunk: Json) -> Iterator[Json]:
        usage = chunk.pop("usage", None)
        yield from self._opening(chunk)
        if chunk["choices"]:
            self.begun = True
            yield chunk
        if usage and (total := self._usage.add(usage, _index(chunk))) and self._usage_asked:
            yield chunk | {"choices": [], "usage": total}

    def _opening(self, chunk: Json) -> Iterator[Json]:
        count, self._roles = self._roles, 0
        for index in range(count):
            delta = {"role": "assistant", "content": ""}
            yield chunk | {"choices": [{"index": index, "delta": delta, "finish_reason": None}]}


def _special(events: bytes) -> bool:
    """Whether something must not pass unseen. Inside a JSON string a quote is always escaped, so no text looks like a key."""
    return b'"usage":' in events or b'"error":' in events or b"\nerror: " in events or events.startswith(b"error: ")


def _index(chunk: Json) -> int:
    """Whose usage a chunk tells: a chat has one prompt, and does not say."""
    return chunk["choices"][0]["index"] if chunk["choices"] else 0

"""An engine's events as chunks whose choices have been corrected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from cortex import errors
from cortex.errors import CortexError
from cortex.wire.sse import data_of

Json = dict[str, Any]
Step = Callable[[Json], Json | None]  # one choice of a chunk, corrected; None: nothing of it is left
Fail = Callable[[Json], CortexError]  # an engine's error object, as a client of this API expects it

PROGRESS = b":\n\n"  # what a client sees of a prefill's progress: a comment


class Reader:
    """Whole events in; comments and the end mark out as they came, everything else as chunks.

    A chunk of a prefill's progress becomes a comment, so that idle timers on the way see life.
    """

    def __init__(self, steps: Sequence[Step], fail: Fail) -> None:
        self._steps = steps
        self._fail = fail

    def read(self, events: bytes) -> Iterator[bytes | Json]:
        """Raises CortexError for an error of the engine, and for what is no JSON."""
        for block in events.replace(b"\r\n", b"\n").split(b"\n\n"):
            if not block:
                continue
            data = _data(block)
            if data is None or data == b"[DONE]":
                yield block + b"\n\n"
            else:
                yield from self._chunk(_parsed(data))

    def _chunk(self, chunk: Json) -> Iterator[bytes | Json]:
        if (error := chunk.get("error")) is not None:
            raise self._fail(error if isinstance(error, dict) else {"message": str(error)})
        progress = chunk.pop("prompt_progress", None)
        if progress is None:
            chunk["choices"] = [kept for choice in chunk.get("choices", ()) if (kept := self._corrected(choice))]
        else:
            chunk["choices"] = []
        yield chunk
        if progress is not None and progress.get("processed", 0) < progress.get("total", 0):
            yield PROGRESS

    def _corrected(self, choice: Json) -> Json | None:
        kept: Json | None = choice
        for step in self._steps:
            if kept is None:
                return None
            kept = step(kept)
        return kept


def _data(block: bytes) -> bytes | None:
    if block.startswith(b"error: "):  # older servers name the field, not the object
        return b'{"error":' + block[7:] + b"}"
    return next(data_of(block), None)


def _parsed(data: bytes) -> Json:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise errors.upstream_failed("the engine sent an event that is no JSON", code="engine_failed") from error
    if not isinstance(chunk, dict):
        raise errors.upstream_failed("the engine sent an event that is no JSON object", code="engine_failed")
    return chunk


def unfinished() -> CortexError:
    return errors.upstream_failed("the engine ended its answer before it was whole", code="engine_failed")

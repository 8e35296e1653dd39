"""How long an engine may be silent towards a request before it counts as stalled.

What counts are results: tokens and the progress of a prefill, not the comments that the engine's server sends by itself
while the model hangs. The time that a slow client takes does not count.

Before its first token a request may wait for others inside the engine, so there any result of that engine is a sign of
life. Afterwards only its own are.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from cortex import errors
from cortex.net.deadline import Deadline

T = TypeVar("T")


class Pulse:
    """When an engine last gave any result, on the event loop's clock."""

    def __init__(self) -> None:
        self.at = float("-inf")


class Patience:
    """One request's; made by `patience`."""

    def __init__(self, limit: asyncio.Timeout, pulse: Pulse, idle_s: float) -> None:
        self.answering = False  # its first token has come
        self._limit = limit
        self._pulse = pulse
        self._idle_s = idle_s
        self._silence_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(self._loop, self._ran_out)

    async def on(self, engine: Awaitable[T]) -> T:
        """Wait for the engine; where it is silent for too long, the block of `patience` ends with CortexError (504)."""
        began = self._loop.time()
        self._deadline.set(self._idle_s - self._silence_s)
        try:
            return await engine
        finally:
            self._deadline.clear()
            self._silence_s += self._loop.time() - began

    def result_came(self) -> None:
        self._silence_s = 0.0
        self._pulse.at = self._loop.time()

    def close(self) -> None:
        self._deadline.close()

    def _ran_out(self) -> None:
        left = 0.0 if self.answering else self._pulse.at + self._idle_s - self._loop.time()
        if left > 0:
            self._deadline.set(left)
        else:
            self._limit.reschedule(self._loop.time())


@contextlib.asynccontextmanager
async def patience(pulse: Pulse, idle_s: float) -> AsyncIterator[Patience]:
    """Raises CortexError (504) out of the block when the engine was silent for `idle_s` seconds."""
    limit = asyncio.timeout(None)
    try:
        async with limit:
            one = Patience(limit, pulse, idle_s)
            try:
                yield one
            finally:
                one.close()
    except TimeoutError:
        if not limit.expired():
            raise
        raise errors.upstream_stalled(idle_s) from None

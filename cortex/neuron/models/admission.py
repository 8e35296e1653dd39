"""Who may use a model now: a bounded number in flight, a bounded queue in order of arrival, a bounded wait.

    async with admission.admit():
        ...                        # holds one place; freed exactly once, on end, error or cancel

Rules learned the hard way by the first generation (upstream-facts C.4): no unbounded queue, refusals are fast and carry a
`Retry-After`, and a waiter that is cancelled leaves no trace.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass

from cortex import errors


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How many at once, how many may wait, and how long (seconds)."""

    max_in_flight: int
    max_queue_depth: int
    max_wait_secs: float


class Admission:
    """The places of one model. Used from the event loop only; one owner, the model's slot."""

    def __init__(self, model_id: str, limits: AdmissionLimits) -> None:
        self._model_id = model_id
        self.limits = limits
        self.in_flight = 0
        self.rejected_queue_full = 0
        self.rejected_timeout = 0
        self._queue: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._closed: Exception | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"<Admission {self._model_id}: {self.in_flight} in flight, {self.queue_depth} waiting>"

    @property
    def queue_depth(self) -> int:
        return len(self._queue)

    @contextlib.asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Hold one place. Raises CortexError 429 when the queue is full or the wait was too long, or what `close` said."""
        if self._closed:
            raise self._closed
        if self.in_flight < self.limits.max_in_flight and not self._queue:
            self._take()
        else:
            await self._wait_for_place()
        try:
            yield
        finally:
            self._give_back()

    async def _wait_for_place(self) -> None:
        if self.queue_depth >= self.limits.max_queue_depth:
            self.rejected_queue_full += 1
            raise self._refusal(
                f"the queue of model '{self._model_id}' is full: {self.in_flight} in flight, {self.queue_depth} waiting"
            )
        place = asyncio.get_running_loop().create_future()
        self._queue[place] = None
        try:
            async with asyncio.timeout(self.limits.max_wait_secs):
                await place
        except TimeoutError:
            self.rejected_timeout += 1
            self._leave(place)
            raise self._refusal(
                f"no place came free at model '{self._model_id}' within {self.limits.max_wait_secs:g} s"
            ) from None
        except BaseException:
            self._leave(place)
            raise

    def _leave(self, place: asyncio.Future[None]) -> None:
        """A waiter goes. If its place was granted in the same moment, the place goes to the next one."""
        self._queue.pop(place, None)
        if place.done() and not place.cancelled() and place.exception() is None:
            self._give_back()

    def _take(self) -> None:
        self.in_flight += 1
        self._idle.clear()

    def _give_back(self) -> None:
        self.in_flight -= 1
        while self._queue and self.in_flight < self.limits.max_in_flight:
            place, _ = self._queue.popitem(last=False)
            if not place.done():
                self._take()
                place.set_result(None)
        if not self.in_flight:
            self._idle.set()

    def _refusal(self, message: str) -> errors.CortexError:
        # Two seconds for each one ahead, in the first generation's bounds.
        return errors.over_capacity(message, retry_after=min(max((self.queue_depth + 1) * 2, 1), 120))

    def close(self, reason: Exception) -> None:
        """Admit nobody any more: whoever waits or comes hears `reason`. Those in flight go on."""
        self._closed = reason
        while self._queue:
            place, _ = self._queue.popitem(last=False)
            if not place.done():
                place.set_exception(reason)

    async def idle(self, within_s: float) -> bool:
        """Wait until nobody is in flight; False when time ran out first."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

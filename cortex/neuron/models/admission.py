"""Who may use a model now: a bounded number in flight, a bounded and fair queue, a bounded wait.

    async with admission.admit(caller):
        ...                        # holds one place; freed exactly once, on end, error or cancel

Rules learned the hard way by the first generation (upstream-facts C.4): no unbounded queue, refusals are fast and carry a
`Retry-After`, a waiter that is cancelled leaves no trace, and callers without a name get what others leave.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.models.fair import FairQueue
from cortex.wire.principal import Caller


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How many at once, how many may wait, how long (seconds), and how many of one caller at once: the rest of its requests wait."""

    max_in_flight: int
    max_queue_depth: int
    max_wait_secs: float
    max_per_principal: int | None = None


class Admission:
    """The places of one model. Used from the event loop only; one owner, the model's slot."""

    def __init__(self, model_id: str, limits: AdmissionLimits) -> None:
        self._model_id = model_id
        self.limits = limits
        self.in_flight = 0
        self.rejected_queue_full = 0
        self.rejected_timeout = 0
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()
        self._places: Counter[Caller] = Counter()  # of those in flight
        self._closed: CortexError | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"<Admission {self._model_id}: {self.in_flight} in flight, {self.queue_depth} waiting>"

    @property
    def queue_depth(self) -> int:
        return len(self._queue)

    @contextlib.asynccontextmanager
    async def admit(self, caller: Caller | None = None) -> AsyncIterator[None]:
        """Hold one place. Raises CortexError 429 when the queue is full or the wait was too long, or what `close` said."""
        if self._closed:
            raise self._closed.again()
        if self.in_flight < self.limits.max_in_flight and not self._queue and (not caller or self._may_go(caller)):
            self._take(caller)
        else:
            await self._wait_for_place(caller)
        try:
            yield
        finally:
            self._give_back(caller)

    async def _wait_for_place(self, caller: Caller | None) -> None:
        if self.queue_depth >= self.limits.max_queue_depth and not (caller and self._displace()):
            raise self._queue_full()
        place = asyncio.get_running_loop().create_future()
        self._queue.add(place, caller)
        self._grant()
        try:
            async with asyncio.timeout(self.limits.max_wait_secs):
                await place
        except TimeoutError:
            self.rejected_timeout += 1
            self._leave(place, caller)
            raise self._refusal(
                f"no place came free at model '{self._model_id}' within {self.limits.max_wait_secs:g} s"
            ) from None
        except BaseException:
            self._leave(place, caller)
            raise

    def _displace(self) -> bool:
        """Whether one without a name could be sent away, so that one with a name may wait."""
        place = self._queue.last_without_name()
        if place is None:
            return False
        if not place.done():
            place.set_exception(self._queue_full())
        self._queue.remove(place, None)
        return True

    def _leave(self, place: asyncio.Future[None], caller: Caller | None) -> None:
        """A waiter goes. If its place was granted in the same moment, the place goes to the next one."""
        self._queue.remove(place, caller)
        if place.done() and not place.cancelled() and place.exception() is None:
            self._give_back(caller)

    def _take(self, caller: Caller | None) -> None:
        self.in_flight += 1
        self._idle.clear()
        if caller:
            self._places[caller] += 1

    def _give_back(self, caller: Caller | None) -> None:
        self.in_flight -= 1
        if caller:
            self._places[caller] -= 1
            if not self._places[caller]:
                del self._places[caller]
        self._grant()
        if not self.in_flight:
            self._idle.set()

    def _grant(self) -> None:
        """Places that are free go to those whose turn it is."""
        while self.in_flight < self.limits.max_in_flight and (next_ := self._queue.pop(self._may_go)):
            place, caller = next_
            if not place.done():
                self._take(caller)
                place.set_result(None)

    def _may_go(self, caller: Caller) -> bool:
        most = self.limits.max_per_principal
        return most is None or self._places[caller] < most

    def _queue_full(self) -> CortexError:
        self.rejected_queue_full += 1
        return self._refusal(
            f"the queue of model '{self._model_id}' is full: {self.in_flight} in flight, {self.queue_depth} waiting"
        )

    def _refusal(self, message: str) -> CortexError:
        # Two seconds for each one ahead, in the first generation's bounds.
        return errors.over_capacity(message, retry_after=min(max((self.queue_depth + 1) * 2, 1), 120))

    def close(self, reason: CortexError) -> None:
        """Admit nobody any more: whoever waits or comes hears `reason`. Those in flight go on."""
        self._closed = reason
        waiting, self._queue = self._queue, FairQueue()
        for place in waiting:
            if not place.done():
                place.set_exception(reason.again())

    async def idle(self, within_s: float) -> bool:
        """Wait until nobody is in flight; False when time ran out first."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

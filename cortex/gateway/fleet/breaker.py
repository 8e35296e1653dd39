"""A circuit breaker as a value: when a neuron that fails gets no requests, and when it is tried again. No I/O, no clock.

closed     --FAILURES in a row-->  open, until `retry_at`
open       --probe answered-->     half-open; a failure before any request was answered opens it again at once
open       --probe failed-->       open, twice as long as before, RETRY_MAX_S at most
any        --a request answered--> closed, and everything is forgotten
suspected  beside these, while the first failure of a closed one is looked into
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

FAILURES = 3
RETRY_S = 0.5
RETRY_MAX_S = 30.0


class Circuit(IntEnum):
    """How requests are sent to a neuron: as usual, only where nobody else serves, as a trial, not at all."""

    closed = 0
    suspected = 1
    half_open = 2
    open = 3


@dataclass(frozen=True, slots=True)
class Breaker:
    """One neuron's data plane. Times are seconds on the caller's clock.

    failures  requests in a row that got no answer
    opened    how often it opened since a request was answered
    retry_at  open: when to probe; None: closed
    """

    failures: int = 0
    opened: int = 0
    retry_at: float | None = None

    @property
    def is_open(self) -> bool:
        return self.retry_at is not None

    @property
    def circuit(self) -> Circuit:
        if self.is_open:
            return Circuit.open
        return Circuit.half_open if self.opened else Circuit.closed

    def failed(self, now: float) -> Breaker:
        """A request got no answer. While it is open that is old news."""
        if self.is_open:
            return self
        failures = self.failures + 1
        enough = 1 if self.opened else FAILURES  # a probe was answered, and the first request after it was not
        return self._open(now) if failures >= enough else replace(self, failures=failures)

    def tripped(self, now: float) -> Breaker:
        """It is known to be gone: no need to fail three requests for it."""
        return self if self.is_open else self._open(now)

    def probed(self, now: float, *, answered: bool) -> Breaker:
        if not self.is_open:
            return self
        return replace(self, failures=0, retry_at=None) if answered else self._open(now)

    def _open(self, now: float) -> Breaker:
        pause = min(RETRY_S * 2**self.opened, RETRY_MAX_S)
        return Breaker(failures=0, opened=self.opened + 1, retry_at=now + pause)


CLOSED = Breaker()

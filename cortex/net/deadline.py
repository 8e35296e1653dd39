"""A time-out for a wait that is repeated thousands of times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls `strike` once when `set(seconds)` was not moved or cleared in time.

    One event-loop timer serves all waits: a later deadline leaves it alone, and when it fires early it is armed again
    for the rest. So a piece of a stream costs a clock reading and not a timer.
    """

    __slots__ = ("_at", "_due", "_loop", "_strike", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, strike: Callable[[], None]) -> None:
        self._loop = loop
        self._strike = strike
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when the timer fires: uvloop's own does not tell where that is at once

    def set(self, seconds: float) -> None:
        """Strike `seconds` from now."""
        self._at = at = self._loop.time() + seconds
        if self._timer is not None and at < self._due:
            self._disarm()
        if self._timer is None:
            self._arm(at)

    def clear(self) -> None:
        """No deadline now; the timer may stay for the next one."""
        self._at = None

    def passed(self) -> bool:
        """True also where a busy event loop has not come to strike yet."""
        return self._at is not None and self._loop.time() >= self._at

    def close(self) -> None:
        """No deadline any more."""
        self._at = None
        self._disarm()

    def _arm(self, at: float) -> None:
        self._due = at
        self._timer = self._loop.call_at(at, self._fire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        if self._at is None:
            return
        if self._loop.time() < self._at:
            self._arm(self._at)
            return
        self._at = None
        self._strike()

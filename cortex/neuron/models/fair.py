"""Whose turn it is: weighted round robin over callers that wait, each one's own requests in order of arrival.

Start-time fair queueing: a caller's next turn is due 1/weight after its last, and whoever comes anew is due now. So a
caller with a hundred waiting requests delays one with a single one by one turn, and nobody gains by sending one at a
time. Callers without a name come when no other may go, in order of arrival.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from cortex.wire.principal import Caller

W = TypeVar("W")


class FairQueue(Generic[W]):
    """Waiters, each of a caller. A waiter is in here once."""

    def __init__(self) -> None:
        self._waiting: dict[Caller | None, OrderedDict[W, None]] = {}
        self._due: dict[Caller, float] = {}
        self._now = 0.0  # the turn that was given last

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __iter__(self) -> Iterator[W]:
        for waiters in self._waiting.values():
            yield from waiters

    def add(self, waiter: W, caller: Caller | None) -> None:
        self._waiting.setdefault(caller, OrderedDict())[waiter] = None
        if caller and self._due.get(caller, 0.0) < self._now:
            self._due[caller] = self._now

    def remove(self, waiter: W, caller: Caller | None) -> None:
        """It goes without a turn; it may have gone before."""
        if waiters := self._waiting.get(caller):
            waiters.pop(waiter, None)
            if not waiters:
                del self._waiting[caller]

    def pop(self, may_go: Callable[[Caller], bool]) -> tuple[W, Caller | None] | None:
        """The next waiter among the callers that may go; None when there is none."""
        able = [caller for caller in self._waiting if caller and may_go(caller)]
        caller = min(able, key=lambda each: self._due.get(each, 0.0), default=None)
        if caller:
            self._turn(caller)
        elif None not in self._waiting:
            return None
        waiter = next(iter(self._waiting[caller]))
        self.remove(waiter, caller)
        return waiter, caller

    def _turn(self, caller: Caller) -> None:
        self._now = max(self._now, self._due.get(caller, 0.0))
        self._due[caller] = self._now + 1 / caller.weight
        if len(self._due) > 2 * len(self._waiting) + 16:  # what is over is the same as never having been
            self._due = {each: due for each, due in self._due.items() if due > self._now}

    def last_without_name(self) -> W | None:
        """The one that would wait longest."""
        anonymous = self._waiting.get(None)
        return next(reversed(anonymous)) if anonymous else None

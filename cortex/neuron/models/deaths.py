"""Engines that died by themselves: how often, of what, and how long the next one of that model has to wait.

A few are forgiven: one bad prompt must not take a model away. From then on each pause is twice the last one, however
often somebody asks, so that a driver or a file that kills every engine does not eat the host.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from cortex.neuron.engine.outcome import Cause

FORGIVEN = 4
WINDOW_S = 600.0
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0


def pause_after(deaths: int) -> float:
    """Seconds between the last of so many deaths and the next start."""
    if deaths <= FORGIVEN:
        return 0.0
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (deaths - FORGIVEN - 1))


class Deaths:
    """Those of one neuron, by model. Models whose engines live are not in it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moments: dict[str, list[float]] = {}
        self.counts: Counter[tuple[str, Cause]] = Counter()

    def add(self, model_id: str, cause: Cause) -> None:
        self._moments[model_id] = [*self._recent(model_id), self._clock()]
        self.counts[model_id, cause] += 1

    def pause_s(self, model_id: str) -> float:
        """Seconds until an engine of this model may be started again; 0: now."""
        moments = self._recent(model_id)
        return max(0.0, moments[-1] + pause_after(len(moments)) - self._clock()) if moments else 0.0

    def pauses(self) -> dict[str, float]:
        """Models that wait now, and for how long."""
        return {model_id: pause for model_id in self._moments if (pause := self.pause_s(model_id))}

    def _recent(self, model_id: str) -> list[float]:
        now = self._clock()
        return [moment for moment in self._moments.get(model_id, ()) if now - moment < WINDOW_S]

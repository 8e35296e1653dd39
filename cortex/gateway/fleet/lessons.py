"""What failures have taught on one model's way into memory: where not to ask again, what it needs, who is to leave first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cortex.errors import CortexError
from cortex.gateway.routing.decisions import Candidate

TRIES = 3  # of one neuron: as many refusals with new numbers are believed


@dataclass(slots=True)
class Lessons:
    """The fields of `Circumstances` that are learned, and what to tell in the end. One flight writes them."""

    failed_on: set[str] = field(default_factory=set)
    told: dict[str, int] = field(default_factory=dict)
    emptied: set[str] = field(default_factory=set)
    too_much: dict[str, int] = field(default_factory=dict)
    _tries: dict[str, int] = field(default_factory=dict)
    _ran_out: dict[str, Candidate] = field(default_factory=dict)  # by node: with what memory ran out
    _errors: list[CortexError] = field(default_factory=list)

    @property
    def circumstances(self) -> dict[str, Any]:
        """For the next decision."""
        return {
            "failed_on": self.failed_on,
            "told": self.told,
            "emptied": self.emptied,
            "too_much": self.too_much,
        }

    @property
    def telling(self) -> CortexError | None:
        """Of what several neurons said, what is worth a retry; else the first, which was the best candidate."""
        said = self._errors
        return next((error for error in said if error.retry_after is not None), said[0] if said else None)

    def blame(self, node: str, error: CortexError) -> None:
        """The neuron is not asked again."""
        self._errors.append(error)
        self.failed_on.add(node)

    def failed(self, candidate: Candidate, failure: CortexError) -> None:
        """A load failed. Who says what it needs instead is asked once more, by that figure."""
        node = candidate.node
        if failure.code == "insufficient_vram":
            self._tries[node] = self._tries.get(node, 0) + 1
            if isinstance(needed := failure.extras.get("required_mb"), int) and self._tries[node] < TRIES:
                self.told[node] = needed
                self._errors.append(failure)
                return
            self._ran_out[node] = candidate
        self.blame(node, failure)

    def second_chance(self, min_context: int | None, best: Callable[[], Candidate | None]) -> bool:
        """Where memory ran out: once more with everybody gone who may go, then with less context. `best`: what would be tried now."""
        for node, candidate in self._ran_out.items():
            if node not in self.emptied:
                self.emptied.add(node)
                if self._would_go(node, best, with_victims=True):
                    return True
            context = candidate.request.context
            if context and min_context and context > min_context:
                self.too_much[node] = min(context, self.too_much.get(node, context))
                if self._would_go(node, best, with_victims=False):
                    return True
        return False

    def _would_go(self, node: str, best: Callable[[], Candidate | None], *, with_victims: bool) -> bool:
        """Whether the node would be tried again, were it not for its failure; then that is forgiven."""
        self.failed_on.discard(node)
        candidate = best()
        if candidate and candidate.node == node and (candidate.victims or not with_victims):
            return True
        self.failed_on.add(node)
        return False

"""From whom a copy takes its files: from one neuron for as long as it gives them, then from another that has the same. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

TRIES = 3  # in a row that brought nothing, with one neuron while there is another
ATTEMPTS = 6  # with one neuron in all

Givers = Callable[[], Mapping[str, str]]


class Sources:
    """The neurons of one copy.

    node      the one to ask now
    model_id  what that one lists the model as
    asked     all that were, in their order
    """

    def __init__(self, node: str, model_id: str, givers: Givers) -> None:
        """`givers`: by node, what it lists the model as; those that are up and give it now, the best first."""
        self.node = node
        self.asked = [node]
        self._listed = {node: model_id}
        self._givers = givers
        self._failures: Counter[str] = Counter()

    @property
    def model_id(self) -> str:
        return self._listed[self.node]

    @property
    def failures(self) -> int:
        """In a row, of the one to ask."""
        return self._failures[self.node]

    def gave(self) -> None:
        """Bytes came: what failed before that is forgotten."""
        self._failures.clear()

    def failed(self, *, for_good: bool) -> bool:
        """The one that was asked gave nothing, or (`for_good`) never will. False: nobody is left, else `node` is who to ask."""
        self._failures[self.node] = ATTEMPTS if for_good else self._failures[self.node] + 1
        up = self._givers()
        self._listed |= up
        left = [node for node in self._listed if self._failures[node] < ATTEMPTS]
        if not left:
            return False
        self.node = min(left, key=lambda node: (node not in up, self._failures[node] // TRIES, node != self.node))
        if self.node not in self.asked:
            self.asked.append(self.node)
        return True

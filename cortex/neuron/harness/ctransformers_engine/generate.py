"""The generation loop: what of a prompt is new is computed batch by batch, then one token after another is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cortex.neuron.harness.ctransformers_engine.library import Library
from cortex.neuron.harness.ctransformers_engine.sampling import Choice, Sampler

Cancelled = Callable[[], bool]


class Abandoned(Exception):  # noqa: N818  reads as what happened
    """Nobody wants the rest any more."""


@dataclass(frozen=True, slots=True)
class Prefilled:
    """The prompt is computed. `cached`: how many of its tokens stood in the context already."""

    prompt: int
    cached: int


class Generator:
    """One model's context. One answer at a time, from one thread; the next one keeps what both prompts begin with."""

    def __init__(self, library: Library, *, context: int, batch: int, ends: frozenset[int]) -> None:
        self._library = library
        self._batch = batch
        self._ends = ends
        self._computed: list[int] = []  # the tokens in the library's cache
        self.context = context

    def warm_up(self) -> None:
        """Compute one token: what would end the process ends the load, and not a client's request."""
        self._feed([0], lambda: False)
        self._library.logits()
        self._computed.clear()

    def run(
        self, prompt: Sequence[int], sampler: Sampler, *, budget: int, cancelled: Cancelled
    ) -> Iterator[Prefilled | Choice | None]:
        """First `Prefilled`, then at most `budget` choices; None at the end says that the model ended by itself.

        `prompt` has at least one token, all of the vocabulary, and with `budget` fits into the context. Raises Abandoned.
        """
        cached = self._keep_common(prompt)
        try:
            self._feed(prompt[cached:], cancelled)
            yield Prefilled(len(prompt), cached)
            for left in reversed(range(budget)):
                choice = sampler.choose(self._library.logits())
                if choice.token in self._ends:
                    yield None
                    return
                yield choice
                if left:
                    self._feed([choice.token], cancelled)
        except (GeneratorExit, Abandoned):  # between two evaluations: what is computed stays good
            raise
        except BaseException:
            self._computed.clear()  # what the cache holds is not known
            raise

    def _keep_common(self, prompt: Sequence[int]) -> int:
        """Forget what differs. The last token is computed in any case: its logits are wanted."""
        most = min(len(prompt) - 1, len(self._computed))
        common = next((at for at in range(most) if prompt[at] != self._computed[at]), most)
        del self._computed[common:]
        return common

    def _feed(self, tokens: Sequence[int], cancelled: Cancelled) -> None:
        for start in range(0, len(tokens), self._batch):
            if cancelled():
                raise Abandoned
            piece = tokens[start : start + self._batch]
            self._library.evaluate(piece, len(self._computed))
            self._computed.extend(piece)

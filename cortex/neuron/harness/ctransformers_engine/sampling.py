"""Parameters and logits → a token. The parameters mean what OpenAI says; those it has not mean what others agree on. Pure but for its generator.

In this order: repetition penalty (a positive logit of a token that stands in the context is divided by it, a negative one
multiplied), frequency and presence penalty (over what was sampled), bias, temperature, top_k, top_p, min_p. Temperature 0
takes the most likely token. Log probabilities are of the model's own distribution, before all of that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
COLDEST = 1e-6  # a temperature below counts as 0: logits divided by it say nothing more, and overflow in the end


@dataclass(frozen=True, slots=True)
class Sampling:
    """One request's parameters, checked. top_k 0: all; logprobs None: not asked for, else how many alternatives."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    seed: int | None = None


class Choice(NamedTuple):
    """A token, its log probability, and the most likely ones with theirs (when they were asked for)."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Chooses the tokens of one answer."""

    def __init__(self, asked: Sampling, prompt: Sequence[int], index: int = 0) -> None:
        """`index`: the answer's number among several; each has its own sequence of random numbers, the same every time."""
        self._asked = asked
        self._sampled: Counter[int] = Counter()
        self._seen = set(prompt) if asked.repetition_penalty != 1 else set()
        seed = None if asked.seed is None else [asked.seed & (2**64 - 1), index]
        self._random = np.random.default_rng(seed)

    def choose(self, raw: npt.NDArray[np.float32]) -> Choice:
        asked = self._asked
        logits = raw.astype(np.float64)
        adjusted = self._adjusted(logits)
        token = int(np.argmax(adjusted)) if asked.temperature < COLDEST else self._drawn(adjusted / asked.temperature)
        self._sampled[token] += 1
        if asked.repetition_penalty != 1:
            self._seen.add(token)
        if asked.logprobs is None:
            return Choice(token)
        known = log_softmax(logits)
        return Choice(token, float(known[token]), _most_likely(known, asked.logprobs))

    def _adjusted(self, logits: Floats) -> Floats:
        asked = self._asked
        adjusted = logits.copy()
        if self._seen:
            seen = np.fromiter(self._seen, dtype=np.int64)
            values = adjusted[seen]
            adjusted[seen] = np.where(values > 0, values / asked.repetition_penalty, values * asked.repetition_penalty)
        if asked.frequency_penalty or asked.presence_penalty:
            for token, count in self._sampled.items():
                adjusted[token] -= count * asked.frequency_penalty + asked.presence_penalty
        for token, bias in asked.logit_bias.items():
            adjusted[token] += bias
        return adjusted

    def _drawn(self, logits: Floats) -> int:
        order = np.argsort(-logits, kind="stable")[: self._asked.top_k or None]
        likely = np.exp(log_softmax(logits[order]))
        kept = likely >= self._asked.min_p * likely[0]
        # a token stays while those before it have not yet reached top_p: the first always does
        kept &= np.concatenate(([True], np.cumsum(likely)[:-1] < self._asked.top_p))
        order, likely = order[kept], likely[kept]
        point = self._random.random() * likely.sum()
        return int(order[min(int(np.searchsorted(np.cumsum(likely), point, side="right")), len(order) - 1)])


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max()
    result: Floats = shifted - np.log(np.exp(shifted).sum())
    return result


def _most_likely(known: Floats, count: int) -> tuple[tuple[int, float], ...]:
    order = np.argsort(-known, kind="stable")[:count]
    return tuple((int(token), float(known[token])) for token in order)

"""What is counted of every answer: plain numbers, which Prometheus's types would guard by a lock at every touch.

The event loop is their only writer and reader; they become Prometheus's types when somebody asks for them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from cortex.gateway.proxy.observe import Totals

DURATION_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200)
FIRST_TOKEN_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120)
SPEED_BUCKETS = (1, 2.5, 5, 10, 15, 20, 30, 40, 60, 80, 120, 200)
_LABELS = ("model", "node")


class Distribution:
    """How many values there were up to each bound, and beyond the last; and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: tuple[str, ...]) -> None:
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        family.add_metric(labels, list(zip(names, accumulate(self._counts), strict=True)), self._sum)


class Answers:
    """Of one model on one node. `first_token` is None until a stream had one."""

    __slots__ = ("cached", "completion", "duration", "first_token", "prompt", "requests", "speed")

    def __init__(self) -> None:
        self.requests = self.prompt = self.completion = self.cached = 0
        self.duration = Distribution(DURATION_BUCKETS)
        self.speed = Distribution(SPEED_BUCKETS)
        self.first_token: Distribution | None = None

    def ended(self, totals: Totals) -> None:
        """An answer is over, whole or not."""
        self.duration.observe(totals.seconds)
        self.prompt += totals.prompt_tokens
        self.completion += totals.completion_tokens
        self.cached += totals.cached_tokens
        if totals.first_token_s is not None:
            if self.first_token is None:
                self.first_token = Distribution(FIRST_TOKEN_BUCKETS)
            self.first_token.observe(totals.first_token_s)
        if totals.tokens_per_second is not None:
            self.speed.observe(totals.tokens_per_second)


class AnswerSeries(Collector):
    """All of them, by model and node."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], Answers] = {}

    def of(self, model: str, node: str) -> Answers:
        series = self._series.get((model, node))
        if series is None:
            series = self._series[model, node] = Answers()
        return series

    def collect(self) -> Iterator[Metric]:
        yield self._counter("cortex_requests", "Requests that were sent to a neuron.", lambda each: each.requests)
        yield self._counter(
            "cortex_prompt_tokens", "Prompt tokens, as the engines count them.", lambda each: each.prompt
        )
        yield self._counter("cortex_completion_tokens", "Generated tokens.", lambda each: each.completion)
        yield self._counter(
            "cortex_cached_prompt_tokens", "Prompt tokens that came from an engine's cache.", lambda each: each.cached
        )
        yield self._histogram(
            "cortex_request_duration_seconds",
            "From sending the request to the end of its answer.",
            lambda each: each.duration,
        )
        yield self._histogram(
            "cortex_time_to_first_token_seconds",
            "To the first content or reasoning token of a stream.",
            lambda each: each.first_token,
        )
        yield self._histogram(
            "cortex_tokens_per_second",
            "Generated tokens over the time from the first to the last.",
            lambda each: each.speed,
        )

    def _counter(self, name: str, text: str, of: Callable[[Answers], int]) -> Metric:
        family = CounterMetricFamily(name, text, labels=_LABELS)
        for labels, series in self._series.items():
            family.add_metric(labels, of(series))
        return family

    def _histogram(self, name: str, text: str, of: Callable[[Answers], Distribution | None]) -> Metric:
        family = HistogramMetricFamily(name, text, labels=_LABELS)
        for labels, series in self._series.items():
            if (values := of(series)) is not None:
                values.add_to(family, labels)
        return family

"""What Prometheus sees: names, labels and buckets of the first generation (upstream-facts B.6).

A model is a label only after a request was routed to it, so that clients cannot make series. Gauges are read from the
fleet when they are asked for: what is gone has no series. Errors are failures of a neuron or on the way to it, and its
answers from 500 on; a caller's mistake is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cortex.gateway.answers import AnswerSeries
from cortex.gateway.fleet.state import Fleet, NeuronView
from cortex.gateway.proxy.observe import Totals
from cortex.wire.fleet import ModelHealth

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LABELS = ("model", "node")
_PRINCIPAL = ("account", "key")


class Metrics:
    """One gateway's metrics, in a registry of their own."""

    def __init__(self, fleet: Fleet) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_FleetGauges(fleet))
        self._answers = AnswerSeries()
        self._registry.register(self._answers)
        self._errors = self._counter("cortex_request_errors", "Requests that a neuron, or the way to it, failed.")
        self._cold_starts = self._counter(
            "cortex_cold_starts", "Models that were loaded because a request came for them."
        )
        self._evictions = self._counter("cortex_evictions", "Models that were unloaded to make room.")
        self._unloads = self._node_counter("cortex_unloads", "Models that this gateway had unloaded.")
        self._defrags = self._node_counter(
            "cortex_defragmentations_due", "Times that eviction.defrag_after_cycles unloads were reached."
        )
        self._spent = self._counter("cortex_spend_tokens", "Tokens that a key was charged.", _PRINCIPAL)
        self._spent_prompt = self._counter("cortex_spend_prompt_tokens", "Of these, prompt tokens.", _PRINCIPAL)
        self._spent_completion = self._counter("cortex_spend_completion_tokens", "Of these, generated.", _PRINCIPAL)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = _LABELS) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _node_counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, ("node",), registry=self._registry)

    def sent(self, model: str, node: str) -> None:
        self._answers.of(model, node).requests += 1

    def failed(self, model: str, node: str) -> None:
        self._errors.labels(model, node).inc()

    def cold_start(self, model: str, node: str) -> None:
        self._cold_starts.labels(model, node).inc()

    def unloaded(self, node: str) -> None:
        self._unloads.labels(node).inc()

    def defrag_due(self, node: str) -> None:
        self._defrags.labels(node).inc()

    def evicted(self, model: str, node: str) -> None:
        self._evictions.labels(model, node).inc()

    def answered(self, model: str, node: str, totals: Totals) -> None:
        """An answer is over, whole or not."""
        self._answers.of(model, node).ended(totals)

    def spent(self, account_id: str, key_id: str, prompt: int, completion: int) -> None:
        """A key was charged, whether it has a cap or not."""
        self._spent.labels(account_id, key_id).inc(prompt + completion)
        self._spent_prompt.labels(account_id, key_id).inc(prompt)
        self._spent_completion.labels(account_id, key_id).inc(completion)

    def exposition(self) -> bytes:
        """Prometheus's text format."""
        return generate_latest(self._registry)


class _FleetGauges(Collector):
    """What the neurons said at their last polls."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        views = [view for view in self._fleet.views if view.healthy]
        yield from _models(views)
        yield from _devices(views)
        yield from _nodes(self._fleet.views)


def _models(views: list[NeuronView]) -> Iterator[Metric]:
    fields = ("in_flight", "queue_depth", "max_in_flight", "max_queue_depth")
    for name in fields:
        gauge = GaugeMetricFamily(
            f"cortex_model_{name}", f"{name} of a loaded model, as its neuron says.", labels=["node", "model"]
        )
        for view in views:
            for model in _loaded(view):
                if not name.startswith("max_") or getattr(model, name):  # a ceiling of 0 is an unknown one
                    gauge.add_metric([view.name, model.id], getattr(model, name))
        yield gauge
    rejections = CounterMetricFamily(
        "cortex_model_rejections", "Requests that a neuron turned away.", labels=["node", "model", "reason"]
    )
    for view in views:
        for model in _loaded(view):
            rejections.add_metric([view.name, model.id, "queue_full"], model.rejected_queue_full)
            rejections.add_metric([view.name, model.id, "wait_timeout"], model.rejected_timeout)
    yield rejections


def _loaded(view: NeuronView) -> Iterable[ModelHealth]:
    """Each model once: a series that is there twice spoils the whole exposition."""
    return {model.id: model for model in view.health.models}.values() if view.health else ()


def _devices(views: list[NeuronView]) -> Iterator[Metric]:
    for name, unit in (
        ("vram_used_mb", "MiB"),
        ("vram_free_mb", "MiB"),
        ("utilization_pct", "percent"),
        ("temp_c", "°C"),
    ):
        gauge = GaugeMetricFamily(f"cortex_device_{name}", f"Of a GPU, in {unit}.", labels=["node", "device"])
        for view in views:
            for device in {device.index: device for device in view.health.devices}.values() if view.health else ():
                if (value := getattr(device, name)) is not None:
                    gauge.add_metric([view.name, str(device.index)], value)
        yield gauge


def _nodes(views: tuple[NeuronView, ...]) -> Iterator[Metric]:
    healthy = GaugeMetricFamily("cortex_node_healthy", "1 when the neuron answers its polls.", labels=["node"])
    memory = GaugeMetricFamily(
        "cortex_node_memory_free_mb", "Host memory that a model could still take, in MiB.", labels=["node"]
    )
    for view in views:
        healthy.add_metric([view.name], float(view.healthy))
        if view.healthy and view.health and view.health.memory_free_mb is not None:
            memory.add_metric([view.name], view.health.memory_free_mb)
    yield healthy
    yield memory
    yield _circuits(views)


def _circuits(views: tuple[NeuronView, ...]) -> Metric:
    gauge = GaugeMetricFamily(
        "cortex_neuron_breaker_state",
        "How requests are sent there: 0 closed (as usual), 1 suspected, 2 half-open (on trial), 3 open (not at all).",
        labels=["node"],
    )
    for view in views:
        gauge.add_metric([view.name], float(view.circuit))
    return gauge

"""`GET /metrics` of a neuron: read from the parts when asked, so that series of models that are gone vanish."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from cortex.neuron.models.loading import Loader
from cortex.neuron.models.registry import Registry

_PER_MODEL = {
    "model_in_flight": "Requests that the model works on",
    "model_queue_depth": "Requests that wait for a place",
    "model_max_in_flight": "Places of the model",
    "model_max_queue_depth": "Places of its queue",
}
_PER_DEVICE = {
    "vram_used_mb": "Memory in use, MiB",
    "vram_free_mb": "Memory free, MiB",
    "utilization_pct": "Utilisation, percent",
    "temp_c": "Temperature, degrees Celsius",
    "power_w": "Power drawn, watts",
    "sm_clock_mhz": "Clock of the processors, MHz",
    "ecc_errors": "Uncorrected memory errors since the driver was loaded",
}


class Metrics(Collector):
    """The figures of one neuron in Prometheus' text format."""

    def __init__(self, loader: Loader, registry: Registry) -> None:
        self._loader = loader
        self._registry = registry
        self._prometheus = CollectorRegistry()
        self._prometheus.register(self)

    def render(self) -> tuple[bytes, str]:
        return generate_latest(self._prometheus), CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Metric]:
        yield from self._models()
        yield from self._devices()
        if (free := self._loader.ledger.free().free_mb) is not None:
            yield GaugeMetricFamily("neuron_memory_free_mb", "Memory that a model could still take, MiB", value=free)

    def _models(self) -> Iterator[Metric]:
        health = self._registry.health()
        for name, text in _PER_MODEL.items():
            gauge = GaugeMetricFamily(f"neuron_{name}", text, labels=["model"])
            for model in health:
                gauge.add_metric([model["id"]], model[name.removeprefix("model_")])
            yield gauge
        rejected = CounterMetricFamily(
            "neuron_model_rejections", "Requests refused at the model's queue", labels=["model", "reason"]
        )
        for model in health:
            rejected.add_metric([model["id"], "queue_full"], model["rejected_queue_full"])
            rejected.add_metric([model["id"], "wait_timeout"], model["rejected_timeout"])
        yield rejected
        memory = GaugeMetricFamily(
            "neuron_model_memory_mb", "Memory that the model's engine holds, MiB", labels=["model"]
        )
        crashes = GaugeMetricFamily(
            "neuron_model_recent_crashes", "Engines of the model that died lately", labels=["model"]
        )
        for slot in self._registry.slots.values():
            crashes.add_metric([slot.id], len(slot.crashes))
            if slot.loaded and slot.loaded.memory_mb is not None:
                memory.add_metric([slot.id], slot.loaded.memory_mb)
        yield from (memory, crashes, *self._deaths())

    def _deaths(self) -> Iterator[Metric]:
        deaths = CounterMetricFamily(
            "neuron_engine_deaths",
            "Engines that ended by themselves, at work or while they loaded",
            labels=["model", "cause"],
        )
        for (model_id, cause), count in self._registry.deaths.counts.items():
            deaths.add_metric([model_id, cause], count)
        pauses = GaugeMetricFamily(
            "neuron_model_backoff_seconds",
            "Seconds until an engine that keeps dying is started again",
            labels=["model"],
        )
        for model_id, pause_s in self._registry.deaths.pauses().items():
            pauses.add_metric([model_id], pause_s)
        yield from (deaths, pauses)

    def _devices(self) -> Iterator[Metric]:
        for name, text in _PER_DEVICE.items():
            gauge = GaugeMetricFamily(f"neuron_device_{name}", text, labels=["device"])
            for device in self._loader.hardware.devices:
                if (value := getattr(device, name)) is not None:
                    gauge.add_metric([str(device.index)], value)
            yield gauge
        answers = GaugeMetricFamily("neuron_device_answers", "1 while the GPU answers its driver", labels=["device"])
        throttled = GaugeMetricFamily(
            "neuron_device_throttled", "1 while something slows the GPU down", labels=["device", "reason"]
        )
        for device in self._loader.hardware.devices:
            answers.add_metric([str(device.index)], device.problem is None)
            for reason in device.throttled_by:
                throttled.add_metric([str(device.index), reason], 1)
        yield from (answers, throttled)
        if (age_s := self._loader.hardware.nvidia_age_s) is not None and self._loader.hardware.devices:
            yield GaugeMetricFamily("neuron_devices_age_seconds", "Age of these figures, seconds", value=age_s)

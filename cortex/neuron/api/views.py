"""What the control plane shows, put together from what the parts know. Nothing here waits or changes anything."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from cortex.neuron.hardware.nvidia import NvidiaReading
from cortex.neuron.harness import choice
from cortex.neuron.harness.base import Harness
from cortex.neuron.models.loading import Loader
from cortex.neuron.models.registry import Registry
from cortex.neuron.models.slot import Slot
from cortex.neuron.models.source import LocalModel
from cortex.neuron.sync.policy import Policy
from cortex.version import version_info
from cortex.wire.fleet import (
    Activation,
    Device,
    DeviceHealth,
    Discovery,
    ForeignDevice,
    HarnessDetail,
    Health,
    ModelEntry,
    ModelHealth,
    ModelStatus,
)

T = TypeVar("T", Device, DeviceHealth)


def discovery(loader: Loader, policy: Policy) -> dict[str, Any]:
    facts, nvidia = loader.hardware.facts, loader.hardware.nvidia
    reason, age_s = loader.harnesses.gpus_unavailable, loader.hardware.nvidia_age_s
    found = Discovery(
        hostname=facts.hostname,
        os=facts.os,
        kernel=facts.kernel,
        cuda_version=nvidia.cuda_version,
        driver_version=nvidia.driver_version,
        cuda_unavailable_reason=reason,
        devices=_with_reasons(nvidia.devices, loader.harnesses.foreign_gpus),
        devices_age_secs=None if age_s is None else round(age_s, 1),
        other_gpus=loader.hardware.other_gpus,
        harnesses=tuple(sorted(loader.harnesses)),
        harness_details=tuple(_harness(harness, nvidia) for harness in loader.harnesses.values()),
        cpu_model=facts.cpu_model,
        cpu_cores=facts.cpu_cores,
        memory_total_mb=loader.ledger.limit_mb or facts.memory_total_mb,
        numa_nodes=facts.numa_nodes,
        version=version_info()["package_version"],
        offers_files=policy.offers,
        accepts_files=policy.accepts,
    )
    # The first generation leaves the reason out where there is none, and shows the other absences as null.
    return found.model_dump(exclude=None if reason else {"cuda_unavailable_reason"})


def _with_reasons(devices: Sequence[T], foreign: Mapping[int, str]) -> tuple[T, ...]:
    return tuple(
        device.model_copy(update={"cuda_unavailable_reason": foreign[device.index]})
        if device.index in foreign
        else device
        for device in devices
    )


def _harness(harness: Harness, nvidia: NvidiaReading) -> HarnessDetail:
    missing = (harness.processor_reason(), harness.cannot_use(nvidia.devices, nvidia.cuda_version))
    foreign = harness.foreign_gpus(nvidia.devices)
    return HarnessDetail(
        name=harness.name,
        version=harness.version(),
        processor_only=harness.processor_reason() is not None,
        cuda_unavailable_reason="; ".join(filter(None, missing)) or None,
        foreign_devices=tuple(
            ForeignDevice(index=index, cuda_unavailable_reason=why) for index, why in foreign.items()
        ),
        **(harness.backends.facts() if harness.backends else {}),
        gpus=harness.other_gpus,
        problem=harness.problem,
    )


def health(loader: Loader, registry: Registry, activation: Activation, *, uptime_s: int) -> dict[str, Any]:
    return Health(
        uptime_secs=uptime_s,
        devices=_with_reasons(loader.hardware.devices, loader.harnesses.foreign_gpus),
        activation=activation,
        models=tuple(ModelHealth(**figures) for figures in registry.health()),
        memory_free_mb=_free_mb(loader),
        disk_free_mb=loader.hardware.disk_free_mb,
        draining=registry.closed or registry.draining,
        time=time.time(),
    ).model_dump()


def models(loader: Loader, registry: Registry, *, everything: bool) -> list[dict[str, Any]]:
    entries = [
        _of_slot(loader, slot)
        for slot in registry.slots.values()
        if everything or slot.status is not ModelStatus.failed
    ]
    if everything:
        listed = {entry.id for entry in entries}
        entries += [_on_disk(loader, model) for model in loader.library.models if model.id not in listed]
    return [_with_first_generation_nulls(entry) for entry in entries]


def _of_slot(loader: Loader, slot: Slot) -> ModelEntry:
    loaded = slot.loaded
    entry = ModelEntry(
        id=slot.id,
        harness=slot.request.harness,
        status=slot.status,
        last_used=slot.last_used,
        ttl=slot.ttl,
        yields=slot.yields or None,
        job_id=slot.job.snapshot.id,
        error=slot.error.message if slot.error else None,
        last_death=slot.last_death,
    )
    if loaded is None:
        return entry
    return entry.model_copy(
        update={
            "harness": loaded.spec.harness,
            "harness_reason": choice.why(slot.request.harness, loaded.model.header, loader.harnesses),
            "processor_only": loaded.harness.processor_reason(loaded.model.header) is not None or None,
            "devices": loaded.devices,
            "vram_used_mb": loaded.memory_mb,
            "vram_estimate_mb": loaded.estimate_mb,
            "estimate_context": loaded.spec.context,
            "quant": loaded.model.quant,
            "size_bytes": loaded.model.size_bytes,
            "context_length": loaded.spec.context,
            "capabilities": loaded.capabilities,
        }
    )


def _on_disk(loader: Loader, model: LocalModel) -> ModelEntry:
    harness = loader.harnesses.first_for(model)
    entry = ModelEntry(
        id=model.id,
        harness=harness.name if harness else "unknown",
        harness_reason=choice.why("auto", model.header, loader.harnesses),
        processor_only=(harness is not None and harness.processor_reason(model.header) is not None) or None,
        status=ModelStatus.unloaded,
        quant=model.quant,
        size_bytes=model.size_bytes,
    )
    forecast = loader.planner.forecast(model)
    if forecast is None:
        return entry
    return entry.model_copy(
        update={
            "vram_estimate_mb": forecast.estimate_mb,
            "vram_measured_mb": forecast.measured_mb,
            "estimate_context": forecast.context,
            "kv_bytes_per_token": forecast.kv_bytes_per_token,
            "capabilities": forecast.capabilities,
        }
    )


def _with_first_generation_nulls(entry: ModelEntry) -> dict[str, Any]:
    """`vram_used_mb` is null when unknown, as it always was; what was added is left out when unknown."""
    return {"vram_used_mb": None, **entry.model_dump(exclude_none=True)}


def _free_mb(loader: Loader) -> int | None:
    """Host memory that a model could take; on a host with GPUs that is no figure to place by."""
    return loader.ledger.free().free_mb

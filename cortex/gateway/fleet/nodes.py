"""A neuron's view as routing sees it. What did not change since the last poll is the same object."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from cortex.gateway.fleet.breaker import Circuit
from cortex.gateway.routing.types import Device, Node, Replica
from cortex.wire.fleet import ModelEntry, ModelStatus

if TYPE_CHECKING:
    from cortex.gateway.fleet.state import NeuronView

T = TypeVar("T")
MIB = 1 << 20


def node_of(view: NeuronView, was: NeuronView | None, known: Node | None) -> Node:
    """The node of a view; `was` and `known` are the last ones of the same neuron."""
    return Node(
        name=view.name,
        ready=view.ready,
        devices=_devices(view),
        harnesses=view.discovery.harnesses if view.discovery else None,
        memory_free_mb=view.health.memory_free_mb if view.health else None,
        disk_free_mb=view.health.disk_free_mb if view.health else None,
        models=_models(view, was, known),
        others={model_id: load for model_id, load in view.others_load.items() if load},
        last_used=_last_used(view),
        clock_ahead=_clock_ahead(view),
        draining=view.healthy and not view.ready,
        offers=view.discovery is not None and view.discovery.offers_files,
        accepts=view.discovery is not None and view.discovery.accepts_files,
        suspect=view.circuit is Circuit.suspected,
    )


def _models(view: NeuronView, was: NeuronView | None, known: Node | None) -> Mapping[str, Replica]:
    if was is None or known is None:
        return MappingProxyType({entry.id: _replica(view, entry, None) for entry in view.models.values()})
    before = known.models
    if was.models is view.models and was.addresses is view.addresses:
        return before
    now = {
        model_id: before[model_id]
        if was.models.get(model_id) is entry and was.addresses.get(model_id) is view.addresses.get(model_id)
        else _renewed(view, entry, before.get(model_id))
        for model_id, entry in view.models.items()
    }
    same = len(now) == len(before) and all(before.get(model_id) is each for model_id, each in now.items())
    return before if same else MappingProxyType(now)


def _renewed(view: NeuronView, entry: ModelEntry, old: Replica | None) -> Replica:
    """Most of what changes (when it was used last) is no matter of the replica."""
    new = _replica(view, entry, old)
    return old if old is not None and old == new else new


def _replica(view: NeuronView, entry: ModelEntry, old: Replica | None) -> Replica:
    """What a neuron does not tell of a model in memory is as it was told when it was on disk."""
    known = old or Replica(view.name, entry.id, entry.status)
    size_mb = None if entry.size_bytes is None else entry.size_bytes // MIB
    return Replica(
        node=view.name,
        model_id=entry.id,
        status=entry.status,
        address=view.addresses.get(entry.id),
        job_id=entry.job_id,
        devices=entry.devices,
        held_mb=entry.vram_used_mb if entry.vram_used_mb is not None else _promised(entry),
        measured_mb=_first(entry.vram_measured_mb, known.measured_mb),
        estimate_mb=_first(entry.vram_estimate_mb, known.estimate_mb),
        estimate_context=_first(entry.estimate_context, known.estimate_context),
        kv_bytes_per_token=_first(entry.kv_bytes_per_token, known.kv_bytes_per_token),
        quant=_first(entry.quant, known.quant),
        size_mb=_first(size_mb, known.size_mb),
        ttl=entry.ttl,
        context=(entry.limit.context if entry.limit else None) or entry.context_length,
        capabilities=entry.capabilities,
        processor_only=entry.processor_only is True,
        yields=bool(entry.yields),
    )


def _first(told: T | None, known: T | None) -> T | None:
    return known if told is None else told


def _promised(entry: ModelEntry) -> int | None:
    return None if entry.status in (ModelStatus.unloaded, ModelStatus.failed) else entry.vram_estimate_mb


def _last_used(view: NeuronView) -> dict[str, float]:
    """By the list of models, and by the health report, which is the fresher one."""
    listed = {entry.id: entry.last_used for entry in view.models.values() if entry.last_used is not None}
    if view.health:
        listed |= {model.id: model.last_used for model in view.health.models if model.last_used is not None}
    return listed


def _clock_ahead(view: NeuronView) -> float:
    if view.health is None or view.health.time is None or view.last_poll is None:
        return 0.0
    return view.health.time - view.last_poll


def _devices(view: NeuronView) -> tuple[Device, ...] | None:
    if view.discovery is None:
        return None
    free = {device.index: device.vram_free_mb for device in view.health.devices} if view.health else {}
    used = [device for device in view.discovery.devices if device.cuda_unavailable_reason is None]
    return tuple(  # where its engines can use none, the neuron refuses, and says why
        Device(device.index, device.vram_total_mb, free.get(device.index)) for device in used or view.discovery.devices
    )

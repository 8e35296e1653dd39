"""Fleets for routing, in few words: no sockets, no clock. Memory in MiB; the model that is asked for is org/m."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cortex.config.catalogue import Catalogue
from cortex.gateway.routing.decisions import Candidate, Decision, Place, Queue, Reject, Serve, Wait
from cortex.gateway.routing.eviction import Circumstances
from cortex.gateway.routing.route import route
from cortex.gateway.routing.snapshot import FleetSnapshot
from cortex.gateway.routing.types import Device, Node, Replica
from cortex.net.address import Address

M = "org/m"
AT = Address("10.0.0.1", 13131)


def loaded(held_mb: int | None, used: float | None = None, **more: Any) -> dict[str, Any]:
    """A model in memory: what it holds, and when it was used last."""
    return {"status": "loaded", "held_mb": held_mb, "address": AT, "used": used} | more


def on_disk(**more: Any) -> dict[str, Any]:
    return {"status": "unloaded"} | more


def host(name: str, free: int | None = None, *, ready: bool = True, **more: Any) -> Node:
    """A host without a GPU. `models` by id as `loaded(…)` and `on_disk(…)`; `others`: requests that are not ours."""
    return _node(name, ready, {"devices": (), "memory_free_mb": free} | more)


def gpus(name: str, *free_of_total: tuple[int | None, int | None], ready: bool = True, **more: Any) -> Node:
    """A host with GPUs: (free, total) of each."""
    devices = tuple(Device(index, total, free) for index, (free, total) in enumerate(free_of_total))
    return _node(name, ready, {"devices": devices, "memory_free_mb": 100_000} | more)


def _node(name: str, ready: bool, facts: dict[str, Any]) -> Node:  # noqa: FBT001
    models: Mapping[str, dict[str, Any]] = facts.pop("models", {})
    replicas = {
        model_id: Replica(name, model_id, **{key: value for key, value in told.items() if key != "used"})
        for model_id, told in models.items()
    }
    used = {model_id: told["used"] for model_id, told in models.items() if told.get("used") is not None}
    return Node(name, ready, models=replicas, last_used=used, **({"harnesses": ("llamacpp",)} | facts))


def catalogue(*profiles: dict[str, Any], **more: Any) -> Catalogue:
    return Catalogue.model_validate({"models": list(profiles)} | more)


def decide(
    nodes: Iterable[Node],
    profile: dict[str, Any] | None = None,
    others: Iterable[dict[str, Any]] = (),
    *,
    avoid: Iterable[str] = (),
    alias: str | None = None,
    **now: Any,
) -> Decision:
    """What happens to a request for org/m, under an alias if there is one. `profile`: its own, without the id; None: it has none."""
    own = [] if profile is None else [{"id": M} | profile]
    known = catalogue(*own, *others, aliases={alias: M} if alias else {})
    return route(alias or M, known, FleetSnapshot.of(nodes), Circumstances(**now), tuple(avoid))


def told(decision: Decision) -> str:
    """A decision in one line: `serve a`, `wait a`, `a -x -y, b`, `queue a: x`, `503 insufficient_vram`."""
    match decision:
        case Serve(node=node):
            return f"serve {node}"
        case Wait(node=node):
            return f"wait {node}"
        case Place(candidates=found):
            return ", ".join(_told(each) for each in found)
        case Queue(node=node, blocking=blocking):
            return f"queue {node}: {' '.join(blocking)}"
        case Reject(error=error):
            return f"{error.status} {error.code}"


def _told(candidate: Candidate) -> str:
    context = f" at {candidate.request.context}" if candidate.request.context else ""
    devices = f" on {'+'.join(map(str, candidate.request.devices))}" if candidate.request.devices else ""
    return candidate.node + devices + context + "".join(f" -{victim.model_id}" for victim in candidate.victims)

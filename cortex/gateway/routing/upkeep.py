"""What is to be done while nobody asks for it: who has been idle too long, and which resident models are missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cortex.config.catalogue import Catalogue
from cortex.gateway.routing.decisions import Candidate, Victim
from cortex.gateway.routing.eviction import Circumstances, is_busy
from cortex.gateway.routing.placement import Search, candidates
from cortex.gateway.routing.snapshot import FleetSnapshot
from cortex.gateway.routing.types import COMING, Node, Replica
from cortex.wire.fleet import ModelStatus


@dataclass(frozen=True, slots=True)
class Idle:
    """A model on a node that nobody has used for longer than its `ttl`. `since`: its last use, by the neuron's clock."""

    node: str
    model_id: str
    since: float


def idle_too_long(catalogue: Catalogue, fleet: FleetSnapshot, now: Circumstances, clock: float) -> list[Idle]:
    """Loaded models beyond their ttl. `clock`: this gateway's, Unix seconds. Resident models have no ttl."""
    return [
        Idle(node.name, replica.model_id, used)
        for node in fleet.nodes
        for replica in node.resident
        if (ttl := _ttl(replica, catalogue)) is not None
        and (used := node.last_used.get(replica.model_id)) is not None
        and clock + node.clock_ahead - used > ttl
        and replica.model_id not in now.wanted
        and not is_busy(node, replica.model_id, now.in_flight)
    ]


def _ttl(replica: Replica, catalogue: Catalogue) -> float | None:
    """Idle seconds; None: it stays."""
    if replica.status != ModelStatus.loaded or replica.model_id in catalogue.resident.models:
        return None
    if replica.ttl is not None:
        return replica.ttl if replica.ttl >= 0 else None
    profile = catalogue.profile(replica.model_id)
    return (profile and profile.ttl) or None


def leaves_at(
    model_id: str, catalogue: Catalogue, fleet: FleetSnapshot, now: Circumstances, clock: float
) -> float | None:
    """When the last replica of an idle model is to leave, Unix seconds of our clock; None: it stays."""
    loaded = [replica for replica in fleet.replicas(model_id) if replica.status == ModelStatus.loaded]
    ends = [_leaves_at(replica, catalogue, fleet.by_name[replica.node], now, clock) for replica in loaded]
    known = [end for end in ends if end is not None]
    return max(known) if known and len(known) == len(ends) else None


def _leaves_at(replica: Replica, catalogue: Catalogue, node: Node, now: Circumstances, clock: float) -> float | None:
    ttl = _ttl(replica, catalogue)
    if ttl is None:
        return None
    used = node.last_used.get(replica.model_id)
    if used is None or is_busy(node, replica.model_id, now.in_flight):
        return clock + ttl
    return used - node.clock_ahead + ttl


def to_restore(catalogue: Catalogue, fleet: FleetSnapshot, now: Circumstances, clock: float) -> Iterator[Candidate]:
    """Where each resident model that is in no memory may be loaded: only what has long been idle leaves for it, and no other resident."""
    for model_id in catalogue.resident.models:
        replicas = fleet.replicas(model_id)
        if any(replica.status == ModelStatus.loaded or replica.status in COMING for replica in replicas):
            continue
        able = candidates(Search(model_id, catalogue, fleet, now))
        if able and all(
            _may_leave(victim, fleet.by_name[able[0].node], catalogue, clock) for victim in able[0].victims
        ):
            yield able[0]


def _may_leave(victim: Victim, node: Node, catalogue: Catalogue, clock: float) -> bool:
    idle_s = clock + node.clock_ahead - (victim.last_used or 0)
    return victim.model_id not in catalogue.resident.models and idle_s >= catalogue.resident.idle_secs

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
        if (ttl := _ttl(replica, catalogue))
        and (used := node.last_used.get(replica.model_id)) is not None
        and clock + node.clock_ahead - used > ttl
        and replica.model_id not in now.wanted
        and not is_busy(node, replica.model_id, now.in_flight)
    ]


def _ttl(replica: Replica, catalogue: Catalogue) -> float:
    if replica.status != ModelStatus.loaded or replica.model_id in catalogue.resident.models:
        return 0.0
    profile = catalogue.profile(replica.model_id)
    return replica.ttl or (profile and profile.ttl) or 0.0


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

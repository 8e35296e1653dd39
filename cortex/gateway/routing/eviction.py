"""Who may be made to leave for whom (DESIGN section 6.4).

Never busy (requests in flight or queued, ours or others'), never on its way in or out, never of a higher rank than the
model that comes, and never while somebody waits for it. Equal ranks may displace one another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cortex.config.catalogue import Catalogue
from cortex.gateway.routing.decisions import Victim
from cortex.gateway.routing.fit import HOST, Strategy, Tenant
from cortex.gateway.routing.types import BOUNDLESS, COMING, InFlight, Node, Replica
from cortex.wire.fleet import ModelStatus


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a decision depends on beside the fleet and the catalogue; all of it is this gateway's own.

    in_flight  our requests by (node, model)
    prefix     how the request begins, if that is long
    wanted     models for which somebody waits here
    closed     replicas that take no new request, because another model has waited too long for their place
    failed_on  nodes that have failed to load this model just now, and are not asked again
    told       by node: what the neuron said that the model needs, when it refused it
    emptied    nodes that everybody who may leave is to leave, because a load failed there for want of memory
    too_much   by node: tokens of context with which it failed even so
    sync       a model's file may be copied from one neuron to another
    """

    in_flight: InFlight = field(default_factory=dict)
    prefix: bytes = b""
    strategy: Strategy = "lru"
    wanted: Collection[str] = ()
    closed: Collection[tuple[str, str]] = ()
    failed_on: Collection[str] = ()
    told: Mapping[str, int] = field(default_factory=dict)
    emptied: Collection[str] = ()
    too_much: Mapping[str, int] = field(default_factory=dict)
    sync: bool = False


def is_closed(replica: Replica, now: Circumstances) -> bool:
    """It takes nothing new: a model has waited too long for its place, here or at another gateway."""
    return replica.yields or (replica.node, replica.model_id) in now.closed


def is_busy(node: Node, model_id: str, in_flight: InFlight) -> bool:
    return bool(in_flight.get((node.name, model_id)) or node.others.get(model_id))


def tenants(
    node: Node, incoming: str, catalogue: Catalogue, now: Circumstances, *, patient: bool = False
) -> list[Tenant]:
    """Who may leave the node for `incoming`. `patient`: also those that may once their requests are answered."""
    rank = catalogue.priority(incoming)
    return [
        _tenant(node, replica, catalogue, priority)
        for replica in node.resident
        if replica.model_id != incoming
        and (priority := catalogue.priority(replica.model_id)) <= rank
        and (patient or _is_idle(node, replica, now))
    ]


def _is_idle(node: Node, replica: Replica, now: Circumstances) -> bool:
    return (
        replica.status == ModelStatus.loaded
        and (replica.model_id not in now.wanted or is_closed(replica, now))
        and not is_busy(node, replica.model_id, now.in_flight)
    )


def _tenant(node: Node, replica: Replica, catalogue: Catalogue, priority: int) -> Tenant:
    held = held_mb(replica, catalogue) if replica.held_mb is None else replica.held_mb
    # What a model that is still on its way will hold is told when it has come.
    frees = BOUNDLESS if held is None and replica.status in COMING else held or 0
    victim = Victim(replica.model_id, held, node.last_used.get(replica.model_id), priority)
    if not replica.devices:
        return Tenant(victim, {HOST: frees})
    return Tenant(victim, dict.fromkeys(replica.devices, frees // len(replica.devices)))


def held_mb(replica: Replica, catalogue: Catalogue) -> int | None:
    """What a model in memory holds: told by its neuron, else by the catalogue, else estimated."""
    if replica.held_mb is not None:
        return replica.held_mb
    profile = catalogue.profile(replica.model_id)
    known = (profile.vram_mb if profile else None, replica.measured_mb, replica.estimate_mb)
    return next((mb for mb in known if mb is not None), None)

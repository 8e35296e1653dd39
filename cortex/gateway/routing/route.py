"""What happens to a request for a model (DESIGN section 6).

1. An alias is resolved to a concrete id.
2. Loaded and servable somewhere: the least busy replica serves, ties by name.
3. On its way somewhere: wait for it there.
4. Otherwise it is placed on a feasible neuron.
5. Nothing feasible: 404 when no neuron could ever host it, 503 when one could that is down.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cortex import errors
from cortex.config.catalogue import Catalogue, Profile
from cortex.errors import CortexError
from cortex.gateway.routing.placement import candidates, feasible
from cortex.gateway.routing.types import COMING, Decision, FleetSnapshot, Place, Reject, Replica, Serve, Wait
from cortex.wire.fleet import ModelStatus

InFlight = Mapping[tuple[str, str], int]  # this gateway's own requests by (node, model id)


def route(
    model: str,
    catalogue: Catalogue,
    fleet: FleetSnapshot,
    in_flight: InFlight,
    avoid: Collection[str] = (),
) -> Decision:
    """Decide about a request for `model` (an id or an alias). Nodes in `avoid` were tried for this request and do not serve it."""
    # 1
    model_id = catalogue.resolve(model)
    # 2
    replicas = fleet.servable.get(model_id, ())
    if avoid:
        replicas = tuple(replica for replica in replicas if replica.node not in avoid)
    if replicas:
        best = replicas[0] if len(replicas) == 1 else min(replicas, key=lambda replica: _busyness(replica, in_flight))
        assert best.address is not None  # noqa: S101  what makes it servable
        return Serve(best.node, best.address, model_id)
    # 3
    present = [node.models[model_id] for node in fleet.nodes if node.ready and model_id in node.models]
    for replica in present:
        if replica.status in COMING and replica.node not in avoid:
            return Wait(replica.node, replica.job_id, model_id)
    if any(replica.status == ModelStatus.loaded and replica.address is None for replica in present):
        return Reject(
            errors.unavailable(f"model '{model_id}' is loaded, but its neuron has not told where yet", retry_after=2)
        )
    # 4
    profile = catalogue.profile(model_id)
    if able := candidates(model_id, profile, fleet.nodes):
        return Place(able, model_id)
    # 5
    return Reject(why_not(model_id, profile, fleet))


def _busyness(replica: Replica, in_flight: InFlight) -> tuple[int, str]:
    return replica.others_load + in_flight.get((replica.node, replica.model_id), 0), replica.node


def why_not(model_id: str, profile: Profile | None, fleet: FleetSnapshot) -> CortexError:
    """The error for a model that is on no ready neuron and may be placed on none."""
    if not any(node.ready for node in fleet.nodes):
        return errors.unavailable("no healthy nodes available", retry_after=5)
    if down := [node.name for node in fleet.nodes if not node.ready and feasible(node, model_id, profile)]:
        return errors.unavailable(
            f"model '{model_id}' can only be served by {', '.join(down)}, which is down", retry_after=3
        )
    if profile is not None:
        return errors.model_not_found(
            model_id, "on any node: no node has the devices, the harness or the file that its profile asks for"
        )
    return errors.model_not_found(model_id)

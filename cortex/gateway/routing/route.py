"""What happens to a request for a model (DESIGN section 6).

1. An alias is resolved to a concrete id.
2. Loaded and servable somewhere: the least busy replica serves, ties by prefix affinity (whoever was asked for the same
   beginning has it in its cache), then by name. One whose neuron has just failed a request is the last choice; one that
   gives way to a model that has waited too long takes nothing new.
3. On its way somewhere: wait for it there.
4. Otherwise it is placed on a feasible neuron; where only busy models have its room, it waits for its turn.
5. Nothing feasible: 404 when no neuron could ever host it, 503 when one could that is down or full.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from hashlib import blake2b
from operator import attrgetter

from cortex import errors
from cortex.config.catalogue import Catalogue, Profile
from cortex.errors import CortexError
from cortex.gateway.routing.decisions import Candidate, Decision, Place, Queue, Reject, Serve, Wait
from cortex.gateway.routing.eviction import Circumstances, held_mb, is_busy, is_closed
from cortex.gateway.routing.feasible import feasible, files_of
from cortex.gateway.routing.need import attempts
from cortex.gateway.routing.placement import Search, candidates, giver
from cortex.gateway.routing.snapshot import FleetSnapshot, family
from cortex.gateway.routing.types import COMING, Node, Replica
from cortex.wire.fleet import ModelStatus

_ROOM = attrgetter("room_mb")
BUSY_RETRY_S = 5.0
DOWN_RETRY_S = 3.0


def route(
    model: str,
    catalogue: Catalogue,
    fleet: FleetSnapshot,
    now: Circumstances,
    avoid: Collection[str] = (),
) -> Decision:
    """Decide about a request for `model` (an id or an alias). Nodes in `avoid` were tried for this request and are not asked again."""
    # 1
    model_id = catalogue.resolve(model)
    # 2
    if replicas := _open(fleet.servable.get(model_id, ()), now, avoid):
        return _least_busy(replicas, fleet, now)
    # 3
    present = fleet.replicas(model_id)
    coming = [each for each in present if each.status in COMING and each.node not in avoid]
    if coming:
        first = min(coming, key=lambda replica: replica.node)
        return Wait(first.node, first.job_id, model_id)
    if stuck := _cannot_serve_yet(present, now, avoid):
        return stuck
    # 4
    if able := candidates(Search(model_id, catalogue, fleet, now, avoid)):
        return Place(able, model_id)
    if able := candidates(Search(model_id, catalogue, fleet, now, avoid, patient=True)):
        return _queue(able[0], model_id, catalogue, fleet, now)
    # 5
    return why_not(model_id, catalogue, fleet, sync=now.sync)


def _open(replicas: tuple[Replica, ...], now: Circumstances, avoid: Collection[str]) -> tuple[Replica, ...]:
    if not (avoid or now.closed or any(each.yields for each in replicas)):
        return replicas
    return tuple(each for each in replicas if each.node not in avoid and not is_closed(each, now))


def _least_busy(replicas: tuple[Replica, ...], fleet: FleetSnapshot, now: Circumstances) -> Serve:
    def busyness(replica: Replica) -> tuple[bool, int]:
        node, ours = fleet.by_name[replica.node], now.in_flight.get((replica.node, replica.model_id), 0)
        return node.suspect, ours + node.others.get(replica.model_id, 0)

    if len(replicas) == 1:
        best = replicas[0]
    else:
        known = [(busyness(each), each) for each in replicas]
        least = min(busy for busy, _ in known)
        tied = [each for busy, each in known if busy == least]
        best = min(tied, key=lambda each: (_remoteness(each.node, now.prefix), each.node))
    assert best.address is not None  # noqa: S101  what makes it servable
    return Serve(best.node, best.address, best.model_id)


def _remoteness(node: str, prefix: bytes) -> bytes:
    """The least of all nodes for the one at which requests that begin so meet, with whichever gateway and without a table."""
    return blake2b(node.encode(), key=blake2b(prefix).digest(), digest_size=8).digest() if prefix else b""


def _cannot_serve_yet(present: Iterable[Replica], now: Circumstances, avoid: Collection[str]) -> Decision | None:
    """It is loaded somewhere, and must not be loaded a second time for being out of reach just now."""
    loaded = [each for each in present if each.status == ModelStatus.loaded and each.node not in avoid]
    if not loaded:
        return None
    if closed := [each for each in loaded if is_closed(each, now)]:
        error = errors.unavailable(f"model '{closed[0].model_id}' gives way to another one", retry_after=BUSY_RETRY_S)
        return Queue(error, closed[0].model_id, closed[0].node)
    return Reject(
        errors.unavailable(
            f"model '{loaded[0].model_id}' is loaded, but its neuron has not told where yet", retry_after=2
        ),
        loaded[0].node,
    )


def _queue(best: Candidate, model_id: str, catalogue: Catalogue, fleet: FleetSnapshot, now: Circumstances) -> Queue:
    node = fleet.by_name[best.node]
    victims = {victim.model_id for victim in best.victims}
    blocking = tuple(
        each.model_id
        for each in node.resident
        if each.model_id in victims
        and (
            each.status != ModelStatus.loaded
            or each.model_id in now.wanted
            or is_busy(node, each.model_id, now.in_flight)
        )
    )
    error = errors.unavailable(
        f"model '{model_id}' fits only where busy models are: {', '.join(blocking)} on {best.node}",
        code="insufficient_vram",
        retry_after=BUSY_RETRY_S,
        free_mb=best.free_mb,
        required_mb=best.need_mb,
        resident=_residents(node, catalogue, now),
    )
    return Queue(error, model_id, best.node, blocking)


def _residents(node: Node, catalogue: Catalogue, now: Circumstances) -> list[dict[str, object]]:
    return [
        {
            "id": each.model_id,
            "memory_mb": held_mb(each, catalogue),
            "busy": is_busy(node, each.model_id, now.in_flight),
        }
        for each in node.resident
    ]


def why_not(model_id: str, catalogue: Catalogue, fleet: FleetSnapshot, *, sync: bool = False) -> Reject:
    """Why a model that is on no ready neuron may be placed on none."""
    profile = catalogue.profile(model_id)
    if not any(node.ready for node in fleet.freest):
        return Reject(errors.unavailable("no healthy nodes available", retry_after=BUSY_RETRY_S))
    copied = sync and giver(files_of(model_id, profile, fleet), fleet) is not None
    able = [node for node in _perhaps(model_id, profile, fleet) if feasible(node, model_id, profile, copied=copied)]
    if up := [node for node in able if node.ready]:
        best = max(up, key=lambda node: (node.room_mb, node.free_mb))
        return Reject(_no_room(model_id, catalogue, fleet, best), best.name)
    return Reject(_nowhere(model_id, profile, able))


def _nowhere(model_id: str, profile: Profile | None, down: list[Node]) -> CortexError:
    """No node that is up could host it."""
    if down:
        names = ", ".join(sorted(node.name for node in down))
        return errors.unavailable(
            f"model '{model_id}' can only be served by {names}, which is down", retry_after=DOWN_RETRY_S
        )
    if profile is not None:
        return errors.model_not_found(
            model_id, "on any node: no node has the devices, the harness or the file that its profile asks for"
        )
    return errors.model_not_found(model_id)


def _perhaps(model_id: str, profile: Profile | None, fleet: FleetSnapshot) -> Iterable[Node]:
    """The nodes that are worth a look: the roomiest, if it could; what has no profile runs only where it is listed."""
    if profile is None:
        return [fleet.by_name[replica.node] for replica in fleet.known.get(family(model_id), ())]
    known = (node for node in fleet.freest if node.room_mb == fleet.most_room_mb)  # mostly not far from the first
    roomiest = next(known, None) or max(fleet.freest, key=_ROOM)
    return [roomiest] if roomiest.ready and feasible(roomiest, model_id, profile) else fleet.freest


def _no_room(model_id: str, catalogue: Catalogue, fleet: FleetSnapshot, best: Node) -> CortexError:
    """Feasible and up, and still nowhere: with the numbers of the node that comes nearest."""
    profile, search = catalogue.profile(model_id), Search(model_id, catalogue, fleet, Circumstances())
    least = search.need_on(best, attempts(profile)[-1].counted)
    return errors.insufficient_vram(
        f"no node has room for model '{model_id}': it needs {least.mb} MiB, {best.name} has {max(0, best.free_mb)} MiB free, "
        "and what is loaded there may not leave for it",
        free_mb=max(0, best.free_mb),
        required_mb=least.mb,
        resident=_residents(best, catalogue, Circumstances()),
    )

"""What would happen to a request, and why, node by node: `GET /plan`. Nothing is done."""

from __future__ import annotations

from typing import Any

from cortex.config.catalogue import Catalogue
from cortex.gateway.routing.decisions import Candidate, Decision, Place, Queue, Reject, Serve, Wait
from cortex.gateway.routing.eviction import Circumstances, held_mb, is_busy
from cortex.gateway.routing.feasible import obstacle
from cortex.gateway.routing.placement import Search, best_on, can_have_file
from cortex.gateway.routing.route import route
from cortex.gateway.routing.snapshot import FleetSnapshot
from cortex.gateway.routing.types import Node, Replica
from cortex.wire.fleet import ModelStatus


def explain(model: str, catalogue: Catalogue, fleet: FleetSnapshot, now: Circumstances) -> dict[str, Any]:
    """The verdict (`serve`, `wait`, `load`, `queue`, `reject`), its reason in words, and every node's part in it.

    Of each node: whether it is a candidate, with need, free memory and victims (MiB), or why it is none; the best first.
    """
    decision = route(model, catalogue, fleet, now)
    search = Search(catalogue.resolve(model), catalogue, fleet, now)
    order = [each.node for each in decision.candidates] if isinstance(decision, Place) else []
    nodes = [_node(search, node) for node in fleet.nodes]
    nodes.sort(key=lambda told: order.index(told["node"]) if told["node"] in order else len(order))
    return {"model": model, "model_id": search.model_id, **_verdict(decision), "nodes": nodes}


def _verdict(decision: Decision) -> dict[str, Any]:
    match decision:
        case Serve(node=node):
            return {"verdict": "serve", "node": node, "why": "it is loaded there, and no replica is less busy"}
        case Wait(node=node):
            return {"verdict": "wait", "node": node, "why": "it is on its way into memory there"}
        case Place(candidates=(best, *_)):
            return {"verdict": "load", "node": best.node, "why": _why(best)}
        case Queue(error=error, node=node):
            return {"verdict": "queue", "node": node, "why": error.message}
        case Reject(error=error):
            return {"verdict": "reject", "why": error.message, "status": error.status, "code": error.code}
    raise AssertionError(decision)


def _why(best: Candidate) -> str:
    if best.victims:
        return f"it fits there once {', '.join(victim.model_id for victim in best.victims)} has left"
    if best.need_mb is None or best.free_mb is None:
        return "nobody knows yet what it needs or what is free there: the neuron will judge"
    return f"it needs {best.need_mb} MiB, and {best.free_mb} MiB are free there"


def _node(search: Search, node: Node) -> dict[str, Any]:
    told: dict[str, Any] = {"node": node.name, "candidate": False}
    if replica := node.models.get(search.model_id):
        told["status"] = str(replica.status)
    reason = _outside_memory(search, node)
    if reason is None and (candidate := best_on(search, node)):
        return told | {"candidate": True} | _candidate(candidate)
    wanted = search.need_on(node)
    return (
        told | {"why": reason or _no_room(search, node, wanted.mb)} | _numbers(wanted.mb, wanted.source, node.free_mb)
    )


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "has_file": candidate.has_file,
        **({"sync_from": candidate.sync_from} if candidate.sync_from else {}),
        **_numbers(candidate.need_mb, candidate.need_from, candidate.free_mb),
        "devices": list(candidate.request.devices or ()),
        "context": candidate.request.context,
        "victims": [
            {
                "id": victim.model_id,
                "memory_mb": victim.memory_mb,
                "last_used": victim.last_used,
                "priority": victim.priority,
            }
            for victim in candidate.victims
        ],
    }


def _numbers(need_mb: int | None, source: str | None, free_mb: int | None) -> dict[str, Any]:
    known = None if free_mb is None or free_mb < 0 else free_mb
    return {"need_mb": need_mb, "need_from": source, "free_mb": known}


def _outside_memory(search: Search, node: Node) -> str | None:
    """Why the node is no candidate, for all its memory; None when memory decides."""
    if not node.ready:
        return "it is down, or takes nothing new"
    if search.profile and (reason := obstacle(node, search.profile)):
        return reason
    if node.name in search.files:
        return None
    if not can_have_file(search, node):
        return "the model is not on its disk, and no profile says where it could be fetched"
    if node.disk_free_mb is not None and node.disk_free_mb <= search.size_mb:
        return f"to be fetched it needs {search.size_mb} MiB of disk, and {node.disk_free_mb} MiB are free"
    return None


def _no_room(search: Search, node: Node, need_mb: int | None) -> str:
    stay = "; ".join(f"{replica.model_id} stays: {_stays(search, node, replica)}" for replica in node.resident)
    return f"it needs {need_mb} MiB, and there is no room" + (f" ({stay})" if stay else "")


def _stays(search: Search, node: Node, replica: Replica) -> str:
    """Why a model in memory does not leave for this one."""
    if replica.status != ModelStatus.loaded:
        return f"it is {replica.status}"
    if is_busy(node, replica.model_id, search.now.in_flight):
        return "it is busy"
    if replica.model_id in search.now.wanted:
        return "somebody waits for it"
    if search.catalogue.priority(replica.model_id) > search.catalogue.priority(search.model_id):
        return "it ranks higher"
    return f"its {held_mb(replica, search.catalogue)} MiB are not enough"

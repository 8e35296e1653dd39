"""Where a model may go when its files may be copied from one neuron to another."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.fleets import M, catalogue, decide, host, loaded, on_disk, told

from cortex.gateway.routing.decisions import Place
from cortex.gateway.routing.eviction import Circumstances
from cortex.gateway.routing.plan import explain
from cortex.gateway.routing.snapshot import FleetSnapshot
from cortex.gateway.routing.types import Node

BUSY: dict[str, Any] = {"in_flight": {("a", "x"): 1}}
NEEDS_500 = {"estimate_mb": 500, "size_mb": 400}


def has(name: str = "a", free: int = 900, **more: Any) -> Node:
    """A host with org/m on its disk, which it gives to others."""
    models = {M: on_disk(**NEEDS_500)} | more.pop("models", {})
    return host(name, free, models=models, **({"offers": True} | more))


def lacks(name: str = "b", free: int = 900, **more: Any) -> Node:
    return host(name, free, **({"accepts": True} | more))


FULL: dict[str, Any] = {"free": 100, "models": {"x": loaded(800)}}

# fmt: off
ROWS: dict[str, tuple[list[Node], dict[str, Any] | None, dict[str, Any], str]] = {
    "it is loaded where its file is, where that can be": ([has(), lacks(free=5000)], None, {}, "a"),
    "and rather by evicting there than by copying": ([has(**FULL), lacks()], None, {}, "a -x"),
    "it is copied where nobody may leave for it": ([has(**FULL), lacks()], None, BUSY, "b from a"),
    "only to a host that accepts files": ([has(**FULL), lacks(accepts=False)], None, BUSY, "queue a: x"),
    "only from a host that offers its own": ([has(**FULL, offers=False), lacks()], None, BUSY, "queue a: x"),
    "only when the operator lets it": ([has(**FULL), lacks()], None, BUSY | {"sync": False}, "queue a: x"),
    "from a host that is being drained": ([has(ready=False, draining=True), lacks()], None, {}, "b from a"),
    "not from one that is down": ([has(ready=False), lacks()], None, {}, "503 service_unavailable"),
    "not where the disk has no room": ([has(**FULL), lacks(disk_free_mb=400)], None, BUSY, "queue a: x"),
    "not where memory has no room": ([has(**FULL), lacks(free=400)], None, BUSY, "queue a: x"),
    "not where no harness serves": ([has(**FULL), lacks(harnesses=())], None, BUSY, "queue a: x"),
    "to the host that it is pinned to": ([has(), lacks()], {"pinned_on": ["b"]}, {}, "b from a"),
    "instead of fetching it": ([has(**FULL), lacks()], {}, {}, "b from a"),
    "fetched where copies are not accepted": ([has(**FULL), lacks(accepts=False)], {}, {}, "b"),
    "with others leaving there": ([has(**FULL), lacks(free=0, models={"y": loaded(900)})], None, BUSY, "b from a -y"),
    "from whoever offers": ([has("a", **FULL, offers=False), has("c", **FULL), lacks()], None, {"in_flight": {("a", "x"): 1, ("c", "x"): 1}}, "b from c"),
    "what nobody has cannot be copied": ([lacks("a"), lacks("b")], None, {}, "404 model_not_found"),
}
# fmt: on


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_host_without_the_file_gets_it_where_sync_is_allowed(row: tuple[Any, ...]) -> None:
    """A host that lacks a model is feasible only when the operator allows copies, somebody offers and it accepts."""
    nodes, profile, now, expected = row
    decision = decide(nodes, profile, **({"sync": True} | now))
    said = told(decision)
    if isinstance(decision, Place) and (best := decision.candidates[0]).sync_from:
        said = said.replace(best.node, f"{best.node} from {best.sync_from}", 1)
        assert not best.has_file
    assert said == expected


def test_the_plan_says_from_where() -> None:
    """`GET /plan` names the host whose file would be copied."""
    fleet = FleetSnapshot.of([has(**FULL), lacks()])
    plan = explain(M, catalogue(), fleet, Circumstances(sync=True, **BUSY))
    assert (plan["verdict"], plan["node"]) == ("load", "b")
    assert plan["nodes"][0]["sync_from"] == "a"
    without = explain(M, catalogue(), fleet, Circumstances(**BUSY))
    assert without["verdict"] == "queue"
    assert "not on its disk" in next(node["why"] for node in without["nodes"] if node["node"] == "b")

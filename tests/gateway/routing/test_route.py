"""Routing as a table: no sockets, no clock."""

from typing import Any

import pytest

from cortex.config.catalogue import Catalogue
from cortex.gateway.routing.decisions import Place, Queue, Reject, Serve, Wait
from cortex.gateway.routing.eviction import Circumstances
from cortex.gateway.routing.route import route
from cortex.gateway.routing.snapshot import FleetSnapshot
from cortex.gateway.routing.types import Device, Node, Replica
from cortex.net.address import Address

AT = Address("10.0.0.1", 13131)
HERE = Replica("", "org/m", "loaded", AT)


def node(name, status=None, *, ready=True, load=0, address=AT, job_id=None, **told):
    facts: dict[str, Any] = {"devices": (), "harnesses": ("llamacpp",), "memory_free_mb": 4000} | told
    models = {"org/m": Replica(name, "org/m", status, address, job_id)} if status else {}
    return Node(name, ready, models=models, others={"org/m": load}, **facts)


def gpu(*free_of_total):
    return tuple(Device(index, total, free) for index, (free, total) in enumerate(free_of_total))


def decide(*nodes, model="org/m", catalogue=None, in_flight=None, avoid=()):
    now = Circumstances(in_flight=in_flight or {})
    return route(model, Catalogue.model_validate(catalogue or {}), FleetSnapshot.of(nodes), now, avoid)


def profile(**fields):
    return {"models": [{"id": "org/m"} | fields]}


@pytest.mark.parametrize(
    ("nodes", "in_flight", "avoid", "expected"),
    [
        ([node("b", "loaded"), node("a", "loaded")], {}, (), "a"),
        ([node("a", "loaded", load=2), node("b", "loaded", load=1)], {}, (), "b"),
        ([node("a", "loaded"), node("b", "loaded")], {("a", "org/m"): 1}, (), "b"),
        ([node("a", "loaded", load=1), node("b", "loaded")], {("b", "org/m"): 2}, (), "a"),
        ([node("a", "loaded"), node("b", "loaded")], {("a", "org/other"): 9}, (), "a"),
        ([node("a", "loaded", ready=False), node("b", "loaded", load=99)], {}, (), "b"),
        ([node("a", "loaded", address=None), node("b", "loaded", load=9)], {}, (), "b"),
        ([node("a", "loading"), node("b", "loaded", load=9)], {}, (), "b"),
        ([node("a", "loaded"), node("b", "loaded", load=9)], {}, ("a",), "b"),
    ],
)
def test_the_least_busy_servable_replica_serves(nodes, in_flight, avoid, expected):
    """Fewest running and queued requests, then name; down, unknown, loading and avoided replicas do not serve."""
    assert decide(*nodes, in_flight=in_flight, avoid=avoid) == Serve(expected, AT, "org/m")


def test_of_the_equally_busy_the_same_one_serves_what_begins_the_same():
    """Whatever order they were heard in; other beginnings go elsewhere, and a node that leaves moves only its own ones."""
    nodes = [node(name, "loaded") for name in "abcd"]

    def served_by(prefix: bytes, among=nodes, **in_flight):
        now = Circumstances(prefix=prefix, in_flight={(name, "org/m"): 1 for name in in_flight})
        decision = route("org/m", Catalogue(), FleetSnapshot.of(among), now)
        assert isinstance(decision, Serve)
        return decision.node

    prefixes = [b"%d" % number for number in range(40)]
    before = {prefix: served_by(prefix) for prefix in prefixes}
    assert set(before.values()) == set("abcd")
    assert {prefix: served_by(prefix, nodes[::-1]) for prefix in prefixes} == before
    without = {prefix: served_by(prefix, nodes[1:]) for prefix in prefixes}
    assert {prefix for prefix in prefixes if without[prefix] != before[prefix]} == {
        prefix for prefix in prefixes if before[prefix] == "a"
    }
    assert served_by(prefixes[0], a=1, b=1, c=1) == "d"
    assert served_by(b"") == "a"


def test_a_node_under_suspicion_serves_where_nobody_else_does():
    """It is busier than anybody, and still better than nothing."""
    doubtful = node("a", "loaded", suspect=True)
    assert decide(doubtful, node("b", "loaded", load=9)) == Serve("b", AT, "org/m")
    assert decide(doubtful, node("b", "unloaded")) == Serve("a", AT, "org/m")


def test_a_model_that_gives_way_takes_nothing_new():
    """Also where it is another gateway's request that has waited too long: the neuron says so."""
    giving = Replica("a", "org/m", "loaded", AT, yields=True)
    closed = Node("a", ready=True, devices=(), harnesses=("llamacpp",), models={"org/m": giving})
    assert decide(closed, node("b", "loaded", load=9)) == Serve("b", AT, "org/m")
    assert isinstance(decide(closed), Queue)


@pytest.mark.parametrize("status", ["fetching", "loading", "recovering", "reloading"])
def test_a_model_on_its_way_is_waited_for(status):
    """No second placement is begun while a neuron brings the model up, even where another one has the file."""
    nodes = [node("a", "unloaded"), node("b", status, job_id="j1")]
    assert decide(*nodes, catalogue=profile()) == Wait("b", "j1", "org/m")


def test_a_loaded_model_without_address_is_a_retryable_error():
    """A neuron that has not told where it serves is neither used nor loaded twice."""
    decision = decide(node("a", "loaded", address=None))
    assert isinstance(decision, Reject)
    assert (decision.error.status, decision.error.retry_after) == (503, 2)


def candidates(decision):
    assert isinstance(decision, Place), decision
    return [candidate.node for candidate in decision.candidates]


PINNED = profile(pinned_on=["c"])


@pytest.mark.parametrize(
    ("nodes", "catalogue", "expected"),
    [
        # a file on disk may be loaded without a profile, and only where it is
        ([node("a"), node("b", "unloaded")], None, ["b"]),
        # pinned → file present → most free memory → name
        ([node("a", "unloaded"), node("c")], PINNED, ["c"]),
        ([node("a", memory_free_mb=9000), node("b", "unloaded")], profile(), ["b", "a"]),
        ([node("a", memory_free_mb=1000), node("b", memory_free_mb=2000)], profile(), ["b", "a"]),
        ([node("b"), node("a")], profile(), ["a", "b"]),
        ([node("a", memory_free_mb=None), node("b", memory_free_mb=1)], profile(), ["b", "a"]),
        ([node("a", "failed", memory_free_mb=9000), node("b", "unloaded")], profile(), ["b", "a"]),
        ([node("a", "draining")], profile(), ["a"]),
        # harness
        ([node("a", harnesses=("ctransformers",)), node("b")], profile(harness="llamacpp"), ["b"]),
        ([node("a", harnesses=()), node("b", harnesses=None)], profile(), ["b"]),
        # devices: asked for by the profile, or any host will do
        ([node("a"), node("b", devices=gpu((20, 24)))], profile(min_devices=1), ["b"]),
        ([node("a", devices=gpu((10, 24), (10, 24))), node("b", devices=gpu((23, 24)))], profile(min_devices=2), ["a"]),
        ([node("a", devices=gpu((9, 12))), node("b", devices=gpu((5, 24)))], profile(min_device_vram_mb=20), ["b"]),
        (
            [node("a", devices=gpu((5, 24))), node("b", devices=gpu((9, 24), (1, 24)))],
            profile(min_devices=1),
            ["b", "a"],
        ),
        (
            [node("a", devices=None, memory_free_mb=None), node("b", devices=gpu((9, 24)))],
            profile(min_devices=1),
            ["b", "a"],
        ),
        # not from a hub: only where the file is
        ([node("a"), node("b", "unloaded")], profile(), ["b", "a"]),
        ([node("a", ready=False), node("b")], profile(), ["b"]),
    ],
)
def test_a_model_that_is_loaded_nowhere_is_placed(nodes, catalogue, expected):
    """Feasible and ready neurons only, in the order of section 6.4."""
    assert candidates(decide(*nodes, catalogue=catalogue)) == expected


def test_a_model_that_no_hub_has_is_placed_only_where_its_file_is():
    """An id that is no repository's name cannot be fetched."""
    local = {"models": [{"id": "local"}]}
    with_file = Node("a", ready=True, models={"local": Replica("a", "local", "unloaded")})
    assert candidates(decide(with_file, node("b"), model="local", catalogue=local)) == ["a"]
    assert isinstance(decide(node("b"), model="local", catalogue=local), Reject)
    unheard = Node("z", ready=False)
    for known, status in ({"models": []}, 404), (local, 503), ({"models": [{"id": "local", "pinned_on": ["y"]}]}, 404):
        decision = decide(node("b"), unheard, model="local", catalogue=known)
        assert isinstance(decision, Reject)
        assert decision.error.status == status, (
            "a neuron that has never answered may have what the catalogue says exists"
        )
    sourced = {"models": [{"id": "local", "source": "org/repo"}]}
    assert candidates(decide(node("b"), model="local", catalogue=sourced)) == ["b"]


@pytest.mark.parametrize(
    ("fields", "devices", "asked", "parallel"),
    [
        ({}, gpu((9, 24)), None, None),
        ({"min_devices": 1}, gpu((1, 24), (9, 24)), (1,), None),
        ({"min_devices": 2}, gpu((5, 24), (1, 24), (9, 24)), (0, 2), 2),
        ({"min_device_vram_mb": 20}, gpu((9, 12), (5, 24)), (1,), None),
        ({"min_devices": 2}, None, (0, 1), 2),
    ],
)
def test_the_load_asks_for_the_freest_devices_that_the_profile_wants(fields, devices, asked, parallel):
    """Devices are named only when the operator asked for GPUs; several of them mean tensor parallelism."""
    decision = decide(node("a", devices=devices), catalogue=profile(quant="Q4_K_M", context=4096, **fields))
    assert isinstance(decision, Place)
    request = decision.candidates[0].request
    assert (request.devices, request.tensor_parallel, request.devices_required) == (asked, parallel, asked is not None)
    assert (request.model_id, request.quant, request.context, request.wait) == ("org/m", "Q4_K_M", 4096, False)


@pytest.mark.parametrize(
    ("nodes", "catalogue", "status", "words"),
    [
        ([], None, 503, "no healthy nodes available"),
        ([node("a", "loaded", ready=False)], None, 503, "no healthy nodes available"),
        ([node("a")], None, 404, "not found"),
        ([node("a"), node("b", "loaded", ready=False)], None, 503, "only be served by b"),
        ([node("a"), node("c", ready=False)], PINNED, 503, "only be served by c"),
        ([node("a"), node("b", ready=False, devices=None)], profile(min_devices=1), 503, "only be served by b"),
        ([node("a")], PINNED, 404, "not found"),
        ([node("a")], profile(min_devices=1), 404, "profile"),
        ([node("a"), node("b", ready=False)], profile(min_devices=1), 404, "not found"),
        ([node("a", devices=gpu((9, 12)))], profile(min_device_vram_mb=20), 404, "not found"),
    ],
)
def test_what_cannot_be_served_says_whether_trying_again_helps(nodes, catalogue, status, words):
    """404 without Retry-After when no neuron could ever host it, 503 with one when it is down."""
    decision = decide(*nodes, catalogue=catalogue)
    assert isinstance(decision, Reject)
    assert decision.error.status == status
    assert words in decision.error.message
    assert (decision.error.retry_after is not None) == (status == 503)


def test_an_alias_is_resolved_before_anything_else():
    """The decision carries the concrete id."""
    assert decide(node("a", "loaded"), model="small", catalogue={"aliases": {"small": "org/m"}}) == Serve(
        "a", AT, "org/m"
    )

"""What holds of every plan, whatever the fleet: found by hypothesis, checked by figures of our own."""

import itertools
import math

from helpers.fleets import AT, M, catalogue
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex.gateway.routing.decisions import Place, Queue
from cortex.gateway.routing.eviction import Circumstances
from cortex.gateway.routing.route import route
from cortex.gateway.routing.snapshot import FleetSnapshot
from cortex.gateway.routing.types import Device, Node, Replica

NAMES = ("a", "b", "c", "d")
MODELS = ("m1", "m2", "m3", "m4", "m5")
MEMORY = st.integers(0, 1000)
STATUSES = st.sampled_from(["loaded"] * 6 + ["loading", "draining", "unloaded"])


@st.composite
def nodes(draw, name):
    """A host, with or without GPUs, and what is on it."""
    count = draw(st.integers(0, 3))
    devices = tuple(Device(index, 1000, draw(MEMORY)) for index in range(count))
    models = {M: Replica(name, M, "unloaded")} if draw(st.booleans()) else {}
    for model_id in draw(st.sets(st.sampled_from(MODELS))):
        on = tuple(sorted(draw(st.sets(st.integers(0, count - 1), min_size=1)))) if count else ()
        status, held = draw(STATUSES), draw(MEMORY)
        models[model_id] = Replica(name, model_id, status, AT, devices=on, held_mb=held)
    return Node(
        name,
        ready=draw(st.sampled_from([True, True, True, False])),
        devices=devices,
        harnesses=("llamacpp",),
        memory_free_mb=draw(MEMORY),
        models=models,
        others={model_id: 1 for model_id in models if draw(st.integers(0, 4)) == 0},
        last_used={model_id: float(draw(st.integers(0, 9))) for model_id in models},
    )


@st.composite
def questions(draw):
    """A fleet, a catalogue and circumstances."""
    fleet = [draw(nodes(name)) for name in draw(st.sets(st.sampled_from(NAMES), min_size=1))]
    profile = {"id": M, "vram_mb": draw(st.integers(1, 1500))}
    if draw(st.booleans()):
        profile["min_devices"] = draw(st.integers(0, 2))
    if draw(st.booleans()):
        profile["pinned_on"] = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2))
    if draw(st.booleans()):
        profile["residency_priority"] = draw(st.integers(0, 3))
    ranks = [{"id": model_id, "residency_priority": draw(st.integers(0, 3))} for model_id in MODELS]
    now = Circumstances(
        in_flight={
            (draw(st.sampled_from(NAMES)), draw(st.sampled_from(MODELS))): 1 for _ in range(draw(st.integers(0, 3)))
        },
        wanted=draw(st.sets(st.sampled_from(MODELS), max_size=2)),
        strategy=draw(st.sampled_from(["lru", "priority"])),
    )
    return fleet, catalogue(profile, *ranks), now


def plan(question):
    fleet, models, now = question
    return route(M, models, FleetSnapshot.of(fleet), now)


def placed(question):
    """Every candidate of a plan with its node."""
    by_name = {node.name: node for node in question[0]}
    decision = plan(question)
    found = decision.candidates if isinstance(decision, Place) else ()
    return [(candidate, by_name[candidate.node]) for candidate in found]


def free_of(node, victims=()):
    """Free memory by device (-1: the host) once these have left."""
    free = {device.index: device.free_mb for device in node.devices} or {-1: node.memory_free_mb}
    for victim in victims:
        replica = node.models[victim.model_id]
        for index in replica.devices or (-1,):
            free[index] += replica.held_mb // len(replica.devices or (-1,))
    return free


def fits(node, profile, victims=()):
    """Whether some choice of devices has room for equal parts of the model."""
    count = max(1, profile.min_devices if "min_devices" in profile.model_fields_set else 0) if node.devices else 1
    part = math.ceil(profile.vram_mb / count)
    return sum(mb >= part for mb in free_of(node, victims).values()) >= count


def may_host(node, profile):
    wanted = profile.min_devices if "min_devices" in profile.model_fields_set else 0
    return node.ready and (not profile.pinned_on or node.name in profile.pinned_on) and len(node.devices) >= wanted


@settings(max_examples=200, deadline=None)
@given(questions())
def test_a_plan_is_allowed_and_fits(question):
    """Only where the model may run; victims are idle, loaded, unwanted and of no higher rank; then it fits."""
    _, models, now = question
    profile = models.profile(M)
    for candidate, node in placed(question):
        assert may_host(node, profile)
        for victim in candidate.victims:
            assert node.models[victim.model_id].status == "loaded"
            assert not now.in_flight.get((node.name, victim.model_id))
            assert not node.others.get(victim.model_id)
            assert victim.model_id not in now.wanted
            assert models.priority(victim.model_id) <= profile.priority
        assert fits(node, profile, candidate.victims)


@settings(max_examples=200, deadline=None)
@given(questions())
def test_nobody_leaves_needlessly(question):
    """No victim while it fits free somewhere; and of the victims of a plan each one is needed."""
    fleet, models, _ = question
    profile = models.profile(M)
    somewhere = any(may_host(node, profile) and fits(node, profile) for node in fleet)
    for candidate, node in placed(question):
        assert not (somewhere and candidate.victims)
        for fewer in itertools.combinations(candidate.victims, max(0, len(candidate.victims) - 1)):
            assert not candidate.victims or not fits(node, profile, fewer)


@settings(max_examples=100, deadline=None)
@given(questions(), st.randoms())
def test_a_plan_is_the_same_whatever_order_neurons_were_heard_in(question, random):
    """Two gateways that know the same decide the same."""
    fleet, models, now = question
    shuffled = random.sample(fleet, len(fleet))
    assert _essence(plan((shuffled, models, now))) == _essence(plan(question))


@settings(max_examples=100, deadline=None)
@given(questions())
def test_whoever_waits_waits_for_somebody_busy(question):
    """A turn is waited for only where nobody but the busy are in the way."""
    fleet, models, now = question
    decision = plan(question)
    if not isinstance(decision, Queue):
        return
    node = next(node for node in fleet if node.name == decision.node)
    assert decision.blocking
    for model_id in decision.blocking:
        busy = now.in_flight.get((node.name, model_id)) or node.others.get(model_id) or model_id in now.wanted
        assert busy or node.models[model_id].status != "loaded"
        assert models.priority(model_id) <= models.priority(M)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(NAMES).flatmap(nodes), max_size=8), st.sampled_from(NAMES))
def test_a_snapshot_that_grew_equals_one_made_anew(heard, gone):
    """Poll after poll, and when a neuron leaves: the indexes are those of the nodes as they are."""
    grown = FleetSnapshot()
    for node in heard:
        grown = grown.with_node(node)
    _assert_same(grown, {node.name: node for node in heard})
    _assert_same(grown.without(gone), {node.name: node for node in heard if node.name != gone})


def _assert_same(snapshot, by_name):
    assert dict(snapshot.by_name) == by_name
    assert [node.name for node in snapshot.nodes] == sorted(by_name)
    assert list(snapshot.freest) == sorted(by_name.values(), key=lambda node: (-node.free_mb, node.name))
    replicas = [replica for node in by_name.values() for replica in node.models.values()]
    assert sorted(map(repr, itertools.chain(*snapshot.known.values()))) == sorted(map(repr, replicas))
    servable = [each for each in replicas if each.servable and by_name[each.node].ready]
    assert sorted(map(repr, itertools.chain(*snapshot.servable.values()))) == sorted(map(repr, servable))


def _essence(decision):
    """What of a decision another gateway would act on."""
    return decision.error.message if hasattr(decision, "error") else decision

"""Ollama's `keep_alive`: how long a model stays where it is loaded, and what `/api/ps` tells of that."""

import asyncio
import time
from datetime import datetime

import pytest
from helpers.budget_neuron import BudgetNeuron
from helpers.fake_neuron import answer
from helpers.gateways import eventually, gateway
from helpers.waiting import until

from cortex.config.catalogue import Catalogue
from cortex.gateway.routing.eviction import Circumstances
from cortex.gateway.routing.snapshot import FleetSnapshot
from cortex.gateway.routing.types import Node, Replica
from cortex.gateway.routing.upkeep import idle_too_long, leaves_at
from cortex.tasks import Tasks

A, B = "org/a", "org/b"
SIZES = {A: 100, B: 100}
CHAT = {"model": A, "messages": [{"role": "user", "content": "hi"}]}
NOBODY = Circumstances()


def fleet(ttl, *, last_used=1000.0, ahead=0.0, others=0, name="one"):
    """One node with one model."""
    replica = Replica(name, A, "loaded", ttl=ttl)
    return Node(
        name,
        ready=True,
        models={A: replica},
        last_used={A: last_used},
        clock_ahead=ahead,
        others={A: others} if others else {},
    )


@pytest.mark.parametrize(
    ("told", "profile", "resident", "leaves"),
    [
        (None, None, False, None),
        (None, 60, False, 1060),
        (None, 0, False, None),
        (30, None, False, 1030),
        (30, 60, False, 1030),
        (0, 60, False, 1000),
        (-1, 60, False, None),
        (0, None, True, None),
    ],
)
def test_what_was_said_last_holds(told, profile, resident, leaves):
    """A neuron's word before its profile's; what is resident stays; and what is shown is what is done."""
    models = [{"id": A}] if profile is None else [{"id": A, "ttl": profile}]
    catalogue = Catalogue.model_validate({"models": models, "resident": {"models": [A] if resident else []}})
    snapshot = FleetSnapshot.of([fleet(told)])
    assert leaves_at(A, catalogue, snapshot, NOBODY, 1001) == leaves
    after = 1001 if leaves is None else leaves + 1
    assert bool(idle_too_long(catalogue, snapshot, NOBODY, after)) is (leaves is not None)


def test_when_a_model_leaves_is_told_by_our_clock():
    """Of several replicas the last; one that is used leaves so long after now; one that stays means that the model stays."""
    one, ahead = fleet(60), fleet(60, last_used=1150, ahead=100, name="two")
    assert leaves_at(A, Catalogue(), FleetSnapshot.of([one, ahead]), NOBODY, 1001) == 1110
    assert leaves_at(A, Catalogue(), FleetSnapshot.of([one, fleet(-1, name="two")]), NOBODY, 1001) is None
    assert leaves_at(A, Catalogue(), FleetSnapshot.of([fleet(60, others=1)]), NOBODY, 1001) == 1061
    assert leaves_at(B, Catalogue(), FleetSnapshot.of([one]), NOBODY, 1001) is None


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed"])
def test_every_request_may_say_it(path):
    """It is told to the neuron that has the model, after the answer; a request that says nothing changes nothing."""
    body = {"/api/embed": {"input": "hi"}, "/api/generate": {"prompt": "hi"}}.get(path, CHAT) | {"model": A}

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, A, B)
        async with one, gateway([one]) as client:
            await client.post(path, json=body | {"stream": False})
            for number, keep_alive in enumerate(("5m", -1, 7), 1):
                await client.post(path, json=body | {"stream": False, "keep_alive": keep_alive})
                await until(lambda: len(one.kept) == number)  # noqa: B023  awaited in the same turn
            assert one.kept == [(A, 300), (A, -1), (A, 7)]

    asyncio.run(scenario())


def test_zero_lets_it_go_once_nobody_uses_it():
    """Not while another request is with it; and ps shows it until then."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, A, B)
        async with one, gateway([one]) as client:
            one.gate.clear()
            tasks = Tasks("test")
            busy = tasks.start("busy", client.chat(A))
            await until(lambda: one.in_flight[A])
            gone = (await client.post("/api/generate", json={"model": A, "keep_alive": 0})).json()
            assert (gone["done_reason"], gone["response"], one.kept) == ("unload", "", [(A, 0)])
            assert A in [model["name"] for model in (await client.get("/api/ps")).json()["models"]]
            one.gate.set()
            assert (await busy).status_code == 200
            await until(lambda: one.loaded() == [B])
            assert one.cut_off == []
            assert one.log == [f"serve {A}", f"unload {A}"]

    asyncio.run(scenario())


def test_an_empty_request_loads_it_for_so_long():
    """As clients warm a model up: it is loaded, and told how long it stays."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES)
        async with one, gateway([one]) as client:
            told = (await client.post("/api/generate", json={"model": A, "keep_alive": "1h"})).json()
            assert (told["done_reason"], one.kept) == ("load", [(A, 3600)])

            async def leaves():
                (running,) = (await client.get("/api/ps")).json()["models"]
                return datetime.fromisoformat(running["expires_at"]).timestamp()

            assert 3500 < await eventually(leaves) - time.time() < 3700  # clocks agree to within a poll

    asyncio.run(scenario())


def test_a_client_that_left_is_heard_all_the_same():
    """What it said about the model's stay holds from when its answer was cut."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, A)
        async with one, gateway([one]) as client:
            one.step = lambda _number: asyncio.Event().wait()
            tasks = Tasks("test")
            asking = tasks.start("asking", client.post("/api/chat", json=CHAT | {"keep_alive": 9}))
            await until(lambda: one.in_flight[A])
            asking.cancel()
            await until(lambda: one.kept == [(A, 9)])

    asyncio.run(scenario())


def test_a_neuron_that_cannot_be_told_goes_on_as_before():
    """An older one: the answer is the client's, and the log says what was not done."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, A)
        one.instead["/models/keep"] = answer(404, b'{"error": "no such path"}')
        async with one, gateway([one]) as client:
            response = await client.post("/api/chat", json=CHAT | {"stream": False, "keep_alive": 0})
            assert response.json()["message"]["content"] == "Paris"
            await until(lambda: "/models/keep" in one.asked)
            assert one.unloads == []

    asyncio.run(scenario())


def test_a_model_that_nobody_knows_is_not_let_go():
    """404, as for every request that names it; one that is only on disk is gone already."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, A)
        async with one, gateway([one]) as client:
            unknown = await client.post("/api/generate", json={"model": "org/nobody", "keep_alive": 0})
            assert unknown.status_code == 404
            gone = await client.post("/api/generate", json={"model": B, "keep_alive": 0})
            assert gone.json()["done_reason"] == "unload"
            assert one.kept == []

    asyncio.run(scenario())

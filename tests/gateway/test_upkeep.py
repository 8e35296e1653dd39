"""What the gateway does by itself: idle models leave, resident ones come back."""

import asyncio
import time

import pytest
from helpers.budget_neuron import BudgetNeuron
from helpers.gateways import gateway
from helpers.waiting import until

from cortex.gateway.fleet import upkeep
from cortex.gateway.fleet.upkeep import Upkeep
from cortex.tasks import Tasks

A, B = "org/a", "org/b"
SIZES = {A: 600, B: 600}
LOOKS = 5  # of every gateway, in which it would do what it should not do


@pytest.fixture(autouse=True)
def looks(monkeypatch):
    """How often each gateway has looked after its models, which it does more often here."""
    looks: dict[Upkeep, int] = {}
    run, tick = Upkeep.run, Upkeep._tick

    async def counting(self):
        looks[self] = 0
        await run(self)

    async def counted(self):
        await tick(self)
        looks[self] += 1

    monkeypatch.setattr(upkeep, "TICK_S", 0.05)
    monkeypatch.setattr(Upkeep, "run", counting)
    monkeypatch.setattr(Upkeep, "_tick", counted)
    return looks


async def some_looks(looks):
    before = dict(looks)
    assert before
    await until(lambda: all(looks[each] >= before[each] + LOOKS for each in before))


def test_a_model_leaves_when_nobody_has_used_it_for_its_ttl():
    """By its profile or by its neuron's word; the unload is refused when somebody used it after all; others stay."""

    async def scenario():
        one = BudgetNeuron("one", 2000, SIZES | {"org/c": 1}, A, B, "org/c")
        one.models[B]["ttl"] = 0.5
        used = one.used[A]
        async with one, gateway([one], {"models": [{"id": A, "ttl": 0.5}]}) as client:
            await until(lambda: one.loaded() == ["org/c"])
            assert {unload["model_id"]: unload["if_idle_since"] for unload in one.unloads}[A] == used
            assert await client.metric('cortex_unloads_total{node="one"}') == 2
            assert (await client.chat(A)).status_code == 200

    asyncio.run(scenario())


def test_a_model_that_is_used_or_rather_new_stays(looks):
    """Busy for longer than its ttl, also by others; and a neuron whose clock is ahead does not make it old."""

    async def scenario():
        one = BudgetNeuron("one", 2000, SIZES, A)
        one.busy_elsewhere[A] = 1  # until our own request is with it
        ahead = BudgetNeuron("ahead", 2000, SIZES | {"org/c": 1}, "org/c")
        ahead.clock_ahead_s = 1000
        ahead.used["org/c"] = ahead.now()
        catalogue = {"models": [{"id": A, "ttl": 0.1}, {"id": "org/c", "ttl": 500}]}
        async with one, ahead, gateway([one, ahead], catalogue, poll_interval_secs=0.2) as client:
            one.gate.clear()
            tasks = Tasks("test")
            busy = tasks.start("busy", client.chat(A))
            await until(lambda: one.in_flight[A])
            one.busy_elsewhere[A] = 0
            await some_looks(looks)
            assert one.log == [f"serve {A}"]
            one.gate.set()
            await busy
            await until(lambda: one.loaded() == [])
            assert ahead.log == []
        assert one.cut_off == []

    asyncio.run(scenario())


def test_a_resident_model_comes_back_once_what_is_in_its_way_is_idle(looks):
    """It is displaced when somebody needs the room, not restored while that is used, and restored afterwards."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES)
        catalogue = {"resident": {"models": [A], "idle_secs": 0.5}}
        async with one, gateway([one], catalogue, poll_interval_secs=0.2) as client:
            await until(lambda: one.loaded() == [A])
            await some_looks(looks)  # it is seen to be there
            assert (await client.chat(B)).status_code == 200
            last_used = time.time()
            await until(lambda: one.loaded() == [A], within_s=30)
            assert time.time() - last_used >= 0.5
            assert one.log == [f"load {A}", f"unload {A}", f"load {B}", f"serve {B}", f"unload {B}", f"load {A}"]

    asyncio.run(scenario())


def test_resident_models_do_not_displace_one_another(looks):
    """Where both do not fit, one of them is there, and stays; and a resident model has no ttl."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES)
        catalogue = {"models": [{"id": A, "ttl": 0.1}], "resident": {"models": [A, B], "idle_secs": 0}}
        async with one, gateway([one], catalogue):
            await until(lambda: one.loaded() == [A])
            await some_looks(looks)
            assert one.log == [f"load {A}"]

    asyncio.run(scenario())


def test_a_resident_model_that_cannot_be_loaded_is_left_alone_for_a_while(looks):
    """A broken file does not keep a host busy."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES)
        one.load_failures[A] = {"message": "cut short", "code": "unsupported_model"}
        async with one, gateway([one], {"resident": {"models": [A]}}):
            await until(lambda: one.loads)
            await some_looks(looks)
            assert len(one.loads) == 1

    asyncio.run(scenario())


def test_two_gateways_do_not_disturb_one_another(looks):
    """Both look after the same model: it leaves once, and comes back once."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, B)
        one.models[B]["ttl"] = 0.5
        catalogue = {"resident": {"models": [A], "idle_secs": 0.2}}
        async with one, gateway([one], catalogue), gateway([one], catalogue):
            await until(lambda: one.loaded() == [A])
            await some_looks(looks)
            assert one.log == [f"unload {B}", f"load {A}"]

    asyncio.run(scenario())


def test_unloads_are_counted_for_a_defragmentation():
    """Every so many of them are one; nothing is restarted."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, A)
        async with one, gateway([one], eviction={"defrag_after_cycles": 2}) as client:
            for model in (B, A, B):
                assert (await client.chat(model)).status_code == 200
            assert await client.metric('cortex_unloads_total{node="one"}') == 3
            assert await client.metric('cortex_defragmentations_due_total{node="one"}') == 1

    asyncio.run(scenario())

"""Models that do not fit together: who leaves, in what order, what is done when it fails, and what a waiting client sees."""

import asyncio
import contextlib
from collections import Counter

import pytest
from helpers.budget_neuron import BudgetNeuron
from helpers.gateways import eventually, gateway
from helpers.waiting import until

from cortex.gateway.fleet.router import Router
from cortex.gateway.proxy.journey import MAX_MOVES
from cortex.tasks import Tasks

A, B, C = "org/a", "org/b", "org/c"
SIZES = {A: 600, B: 600, C: 300}


@contextlib.asynccontextmanager
async def fleet(*neurons, catalogue=None, **settings):
    """A gateway that knows at once what its neurons say, and seldom asks again by itself."""
    async with contextlib.AsyncExitStack() as stack:
        for neuron in neurons:
            await stack.enter_async_context(neuron)
        client = await stack.enter_async_context(
            gateway(neurons, catalogue, poll_interval_secs=60, keepalive_secs=0.05, **settings)
        )
        yield client, Tasks("test")
    assert [neuron.cut_off for neuron in neurons] == [[] for _ in neurons]


async def gives_way(client, model):
    return (await client.get("/plan", params={"model": model})).json()["verdict"] == "queue"


@pytest.fixture
def waiting(monkeypatch):
    """How many requests wait at the gateway, by model."""
    waiting: Counter[str] = Counter()
    wanting = Router.wanting

    @contextlib.contextmanager
    def counted(self, model_id):
        with wanting(self, model_id):
            waiting[model_id] += 1
            try:
                yield
            finally:
                waiting[model_id] -= 1

    monkeypatch.setattr(Router, "wanting", counted)
    return waiting


def test_idle_models_leave_for_the_one_that_is_asked_for():
    """The fewest of them, before the load; the answer says so, and a counter counts it."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, A, C)
        async with fleet(one) as (client, _):
            response = await client.chat(B)
            assert response.status_code == 200
            assert one.log == ["unload org/a", "load org/b", "serve org/b"]
            assert response.headers["x-cortex-node"] == "one"
            assert response.headers["x-cortex-decision"] == "loaded after evicting org/a"
            assert (await client.chat(B)).headers["x-cortex-decision"] == "served loaded"
            assert await client.metric('cortex_evictions_total{model="org/a",node="one"}') == 1

    asyncio.run(scenario())


def test_a_model_that_was_used_since_we_looked_does_not_leave():
    """The gateway looks again before it acts, and the one that is the oldest now leaves."""

    async def scenario():
        one = BudgetNeuron("one", 1200, SIZES | {C: 600}, C, A)
        async with fleet(one) as (client, _):
            one.used[C] = one.used[A] + 1000
            response = await client.chat(B)
            assert response.headers["x-cortex-decision"] == "loaded after evicting org/a"
            assert "unload org/c" not in one.log

    asyncio.run(scenario())


def test_a_model_that_becomes_busy_in_the_last_moment_does_not_leave():
    """Between looking and unloading another gateway sends a request: the precondition does not hold, and we plan again."""

    async def scenario():
        one = BudgetNeuron("one", 1200, SIZES | {C: 600}, A, C)

        async def taken_first(request):
            one.instead.clear()
            one.busy_elsewhere[A] += 1
            return await one._unload(request)

        async with fleet(one) as (client, _):
            one.instead["/models/unload"] = taken_first
            response = await client.chat(B)
            assert response.headers["x-cortex-decision"] == "loaded after evicting org/c"
            assert one.log[:2] == ["unload org/c", "load org/b"]

    asyncio.run(scenario())


def test_a_refusal_with_numbers_is_planned_with():
    """Nobody knew what it takes; the neuron says so, and who is in the way leaves."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, A)
        one.forgets.add(B)
        one._unloaded(B)
        async with fleet(one) as (client, _):
            assert (await client.chat(B)).status_code == 200
            assert one.log == ["unload org/a", "load org/b", "serve org/b"]
            assert len(one.loads) == 2

    asyncio.run(scenario())


def test_figures_of_two_moments_refuse_nobody():
    """A load of another gateway ended between the two questions of a poll: a model takes memory that is not listed yet."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES)

        async def loaded_meanwhile(request):
            one.instead.clear()
            one._loaded(A)
            return await one._health(request)

        one.instead["/health"] = loaded_meanwhile
        async with fleet(one) as (client, _):
            response = await client.chat(B)
            assert (response.status_code, one.log) == (200, [f"unload {A}", f"load {B}", f"serve {B}"])

    asyncio.run(scenario())


def test_a_load_that_runs_out_of_memory_is_tried_once_more_with_everybody_gone():
    """The figures were wrong: whoever may leave leaves, once, and the model is loaded."""

    async def scenario():
        one = BudgetNeuron("one", 2000, SIZES, A, C)
        one.out_of_memory[B] = 1
        async with fleet(one) as (client, _):
            assert (await client.chat(B)).status_code == 200
            assert set(one.log[:2]) == {"unload org/a", "unload org/c"}
            assert one.log[2:] == ["load org/b", "serve org/b"]

    asyncio.run(scenario())


def test_then_it_is_loaded_with_less_context_if_its_profile_allows():
    """Twice as little each time, down to min_context."""

    async def scenario():
        one = BudgetNeuron("one", 2000, SIZES)
        one.out_of_memory[B] = 2
        profile = {"id": B, "context": 16384, "min_context": 2048}
        async with fleet(one, catalogue={"models": [profile]}) as (client, _):
            assert (await client.chat(B)).status_code == 200
            assert [load["context"] for load in one.loads] == [16384, 8192, 4096]

    asyncio.run(scenario())


def test_in_the_end_it_is_503_with_the_numbers():
    """What is needed, what is free; worth a retry; and nobody was sent away for nothing."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES | {B: 1500}, A)
        async with fleet(one) as (client, _):
            response = await client.chat(B)
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (503, "insufficient_vram")
            assert (error["required_mb"], error["free_mb"]) == (1500, 400)
            assert error["resident"] == [{"id": A, "memory_mb": 600, "busy": False}]
            assert "retry-after" in response.headers
            assert one.log == []

    asyncio.run(scenario())


def test_requests_take_turns_by_model():
    """A B A B A at once, and no room for both: A A A B B, with one swap."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES)
        async with fleet(one) as (client, tasks):
            one.load_gate.clear()
            first = tasks.start("first", client.chat(A))
            await until(lambda: one.loads)
            rest = [tasks.start(f"{number}", client.chat(model)) for number, model in enumerate((B, A, B, A))]
            one.load_gate.set()
            assert [(await task).status_code for task in (first, *rest)] == [200] * 5
            assert one.log == [f"load {A}", *[f"serve {A}"] * 3, f"unload {A}", f"load {B}", *[f"serve {B}"] * 2]

    asyncio.run(scenario())


def test_a_busy_model_is_waited_for():
    """Its place goes over in the moment in which its last answer has ended, not before and not a poll later."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, A)
        async with fleet(one) as (client, tasks):
            one.gate.clear()
            busy = tasks.start("busy", client.chat(A))
            await until(lambda: one.in_flight[A])
            waiting = tasks.start("waiting", client.chat(B))
            joining = tasks.start("joining", client.chat(A))
            await until(lambda: one.in_flight[A] == 2)
            assert one.unloads == []
            one.gate.set()
            assert [(await task).status_code for task in (busy, joining, waiting)] == [200] * 3
            assert one.log == [f"serve {A}"] * 2 + [f"unload {A}", f"load {B}", f"serve {B}"]

    asyncio.run(scenario())


def test_nobody_starves(waiting):
    """After max_swap_wait_secs the busy model takes nothing new, answers what it has, and gives way; then it is its turn again."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, A)
        async with fleet(one, max_swap_wait_secs=0.3) as (client, tasks):
            one.gate.clear()
            busy = tasks.start("busy", client.chat(A))
            await until(lambda: one.in_flight[A])
            starving = tasks.start("starving", client.chat(B))
            await eventually(lambda: gives_way(client, A))
            late = tasks.start("late", client.chat(A))
            await until(lambda: waiting[A])
            one.gate.set()
            assert [(await task).status_code for task in (busy, starving, late)] == [200] * 3
            first, second = [f"unload {A}", f"load {B}", f"serve {B}"], [f"unload {B}", f"load {A}", f"serve {A}"]
            assert one.log == [f"serve {A}", *first, *second]

    asyncio.run(scenario())


def test_nobody_starves_behind_another_gateway():
    """The neuron is asked to let the busy model give way: no gateway's requests get in front, and later it is their turn again."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, A)
        async with (
            fleet(one, max_swap_wait_secs=60) as (theirs, tasks),
            gateway([one], poll_interval_secs=60, keepalive_secs=0.05, max_swap_wait_secs=0.2) as ours,
        ):
            one.gate.clear()
            busy = tasks.start("busy", theirs.chat(A))
            await until(lambda: one.in_flight[A])
            starving = tasks.start("starving", ours.chat(B))
            await until(lambda: one.models[A].get("yields"))
            late = tasks.start("late", theirs.chat(A))

            async def held_back():
                return (await theirs.get("/plan", params={"model": A})).json()["verdict"] == "queue"

            await eventually(held_back)
            one.gate.set()
            assert [(await task).status_code for task in (busy, starving, late)] == [200] * 3
            first, second = [f"unload {A}", f"load {B}", f"serve {B}"], [f"unload {B}", f"load {A}", f"serve {A}"]
            assert one.log == [f"serve {A}", *first, *second]

    asyncio.run(scenario())


def test_a_model_that_is_always_taken_away_again_is_no_unknown_model():
    """It is loaded again some times; in the end the client hears that it may come back, not that there is no such model."""

    class Robbed(BudgetNeuron):
        async def _chat(self, request):
            self._unloaded(A)
            return await super()._chat(request)

    async def scenario():
        one = Robbed("one", 1000, SIZES, A)
        async with fleet(one) as (client, _):
            told = await client.chat(A)
            assert (told.status_code, told.json()["error"]["code"]) == (503, "service_unavailable")
            assert "retry-after" in told.headers
            assert one.log == [f"load {A}"] * (MAX_MOVES - 1)

    asyncio.run(scenario())


def test_a_client_that_leaves_while_it_waits_for_its_turn_has_nobody_evicted(waiting):
    """It takes nothing with it, and leaves nothing behind."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, A)
        async with fleet(one) as (client, tasks):
            one.gate.clear()
            busy = tasks.start("busy", client.chat(A))
            await until(lambda: one.in_flight[A])
            leaving = tasks.start("leaving", client.chat(B))
            polls = one.polls
            await until(lambda: one.polls > polls)  # it waits for its turn, and looks now and then
            leaving.cancel()
            await until(lambda: not waiting[B])
            one.gate.set()
            assert (await busy).status_code == 200
            assert (await client.chat(A)).status_code == 200
            assert one.unloads == []

    asyncio.run(scenario())


def test_waiting_for_a_turn_has_an_end():
    """After load_timeout_secs the client hears who is in the way, with the numbers."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, A)
        one.busy_elsewhere[A] = 1
        async with fleet(one, load_timeout_secs=0.3) as (client, _):
            response = await client.chat(B)
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (503, "insufficient_vram")
            assert A in error["message"]
            assert (error["required_mb"], error["free_mb"]) == (600, 400)
            assert "retry-after" in response.headers
            assert one.unloads == []

    asyncio.run(scenario())


def test_another_node_is_used_before_anybody_waits():
    """Two models that do not fit on one node fit on two."""

    async def scenario():
        one, two = BudgetNeuron("one", 1000, SIZES, A), BudgetNeuron("two", 1000, SIZES)
        async with fleet(one, two) as (client, tasks):
            one.gate.clear()
            busy = tasks.start("busy", client.chat(A))
            await until(lambda: one.in_flight[A])
            assert (await client.chat(B)).headers["x-cortex-node"] == "two"
            one.gate.set()
            assert (await busy).status_code == 200

    asyncio.run(scenario())


# ---- what a waiting client sees


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("by", ["header", "configuration"])
def test_fail_fast_is_told_how_far_the_load_is(stream, by):
    """503 with Retry-After at once; the model is loaded for whoever asks again."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES)
        settings = {"wait": "fail-fast"} if by == "configuration" else {}
        headers = {} if by == "configuration" else {"x-cortex-wait": "fail-fast"}
        async with fleet(one, **settings) as (client, _):
            one.load_gate.clear()

            async def asked():
                return await client.post(
                    "/v1/chat/completions", json={"model": A, "stream": stream, "messages": []}, headers=headers
                )

            response = await asked()
            assert (response.status_code, response.json()["error"]["loading"]["node"]) == (503, "one")
            assert "retry-after" in response.headers

            async def told_the_stage():
                return (await asked()).json()["error"]["loading"]["stage"] == "loading"

            await eventually(told_the_stage)
            one.load_gate.set()

            async def served():
                return (await asked()).status_code == 200

            await eventually(served)
            assert len(one.loads) == 1

    asyncio.run(scenario())


ALIASES = {"aliases": {"any": [A, B, C], "one": A}}


def test_warm_is_served_by_the_next_target_that_is_loaded():
    """The model's name in the request is that target's; the first one is not loaded where somebody would have to leave."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, B)
        async with fleet(one, catalogue=ALIASES) as (client, _):
            body = {"model": "any", "messages": []}
            response = await client.post("/v1/chat/completions", json=body, headers={"x-cortex-wait": "warm"})
            assert response.headers["x-cortex-decision"] == "served warm instead of org/a"
            assert one.sent[-1].json["model"] == B
            assert "x-cortex-wait" not in one.sent[-1].headers
            assert one.loads == []
            assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
            assert one.log[-2:] == [f"load {A}", f"serve {A}"]

    asyncio.run(scenario())


def test_warm_has_the_first_target_loaded_where_there_is_room():
    """The next request is served by what the alias means."""

    async def scenario():
        one = BudgetNeuron("one", 2000, SIZES, B)
        async with fleet(one, catalogue=ALIASES, wait="warm") as (client, _):
            assert (await client.chat("any")).headers["x-cortex-decision"] == "served warm instead of org/a"

            async def served_by_the_first():
                return (await client.chat("any")).headers["x-cortex-decision"] == "served loaded"

            await eventually(served_by_the_first)
            assert one.log.count(f"load {A}") == 1

    asyncio.run(scenario())


def test_warm_without_anything_warm_waits():
    """And so does an alias of one model."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES)
        async with fleet(one, catalogue=ALIASES, wait="warm") as (client, _):
            assert (await client.chat("any")).headers["x-cortex-decision"] == "loaded"
            assert (await client.chat(B)).status_code == 200
            assert (await client.chat("one")).headers["x-cortex-decision"] == "loaded after evicting org/b"

    asyncio.run(scenario())


def test_an_unknown_policy_is_an_error():
    """It names what would be right."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, A)
        async with fleet(one) as (client, _):
            response = await client.post(
                "/v1/chat/completions", json={"model": A, "messages": []}, headers={"x-cortex-wait": "never"}
            )
            assert response.status_code == 400
            assert "block, fail-fast, warm" in response.json()["error"]["message"]

    asyncio.run(scenario())

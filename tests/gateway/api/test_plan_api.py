"""`GET /plan` and `cortex plan`: what would happen, with the numbers, and nothing happens."""

import asyncio
import json
import sys

from helpers.budget_neuron import BudgetNeuron
from helpers.fake_neuron import FakeNeuron
from helpers.gateways import eventually, gateway
from helpers.waiting import until

from cortex.tasks import Tasks

A, B, C = "org/a", "org/b", "org/c"
SIZES = {A: 600, B: 600, C: 300}


async def cortex(*words):
    """A command as it is typed: exit code and output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cortex", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def test_a_plan_names_candidates_numbers_and_victims():
    """Who would leave where, what is needed by whose word, and why a node is none."""

    async def scenario():
        one, two = BudgetNeuron("one", 1000, SIZES, A), FakeNeuron("two")
        async with one, two, gateway([one, two]) as client:
            plan = (await client.get(f"/plan?model={B}")).json()
            assert (plan["model_id"], plan["verdict"], plan["node"]) == (B, "load", "one")
            assert plan["why"] == "it fits there once org/a has left"
            best, other = plan["nodes"]
            assert (best["candidate"], best["has_file"]) == (True, True)
            assert (best["need_mb"], best["need_from"], best["free_mb"]) == (600, "measured", 400)
            (victim,) = best["victims"]
            assert (victim["id"], victim["memory_mb"], victim["priority"]) == (A, 600, 100)
            assert victim["last_used"] == one.used[A]
            assert (other["node"], other["candidate"]) == ("two", False)
            assert "not on its disk" in other["why"]
            assert one.loads == one.unloads == two.loads == []

    asyncio.run(scenario())


def test_every_verdict_has_its_reason():
    """Served, on its way, waiting for a busy one, refused: each says where and why."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES | {"org/huge": 5000}, A)
        async with one, gateway([one], {"aliases": {"it": A}}) as client:

            async def plan(model):
                return (await client.get(f"/plan?model={model}")).json()

            assert (await plan("it"))["verdict"] == "serve"
            refused = await plan("org/huge")
            assert (refused["verdict"], refused["status"], refused["code"]) == ("reject", 503, "insufficient_vram")
            assert "org/a stays: its 600 MiB are not enough" in refused["nodes"][0]["why"]
            assert (await plan("org/none"))["status"] == 404
            one.gate.clear()
            tasks = Tasks("test")
            busy = tasks.start("busy", client.chat(A))
            await until(lambda: one.in_flight[A])
            queued = await plan(B)
            assert (queued["verdict"], queued["node"]) == ("queue", "one")
            assert "org/a stays: it is busy" in queued["nodes"][0]["why"]
            one.gate.set()
            await busy
            one.load_gate.clear()
            loading = tasks.start("loading", client.chat(C))
            await until(lambda: one.loads)

            async def waits():
                return (await plan(C))["verdict"] == "wait"

            await eventually(waits)
            one.load_gate.set()
            await loading
            assert (await client.get("/plan")).status_code == 400

    asyncio.run(scenario())


def test_the_command_line_shows_the_plan():
    """A sentence and a table, or JSON; exit code 1 when a request would be refused."""

    async def scenario():
        one = BudgetNeuron("one", 1000, SIZES, A)
        async with one, gateway([one]) as client:
            endpoint = str(client.base_url).rstrip("/")
            code, out, _ = await cortex("plan", B, "-e", endpoint)
            assert (code, out.splitlines()[0]) == (0, "org/b: load on one: it fits there once org/a has left")
            assert "600 MiB (measured)" in out
            code, out, _ = await cortex("plan", B, "--json", "-e", endpoint)
            assert (code, json.loads(out)["verdict"]) == (0, "load")
            code, out, _ = await cortex("plan", "org/none", "-e", endpoint)
            assert (code, out.partition(":")[0]) == (1, "org/none")

    asyncio.run(scenario())


def mixed_host(*foreign):
    """A host with a card of 1,000 and one of 9,000 MiB; its build has no code for the foreign ones."""
    beast = FakeNeuron("beast")
    beast.models[A] = {"id": A, "status": "unloaded", "vram_estimate_mb": 5000}
    sizes = ((0, 1000), (1, 9000))
    reasons = [{"cuda_unavailable_reason": "not compiled for it"} if index in foreign else {} for index, _ in sizes]
    beast.discovery["devices"] = [
        {"index": index, "name": f"card {index}", "vram_total_mb": mb} | reasons[index] for index, mb in sizes
    ]
    beast.health["devices"] = [{"index": index, "vram_free_mb": mb} for index, mb in sizes]
    return beast


def test_a_gpu_that_a_neurons_build_has_no_code_for_is_no_capacity():
    """Nothing is planned for it, however much it has free; for people it is there, and not used."""

    async def scenario():
        beast = mixed_host(1)
        async with beast, gateway([beast]) as client:
            endpoint = str(client.base_url).rstrip("/")
            plan = (await client.get(f"/plan?model={A}")).json()
            assert (plan["verdict"], plan["code"]) == ("reject", "insufficient_vram")
            assert plan["nodes"][0]["free_mb"] == 1000
            code, out, _ = await cortex("status", "-e", endpoint)
            assert code == 0
            assert "card 0 1000 MiB + (card 1 9000 MiB, not used)  1000 MiB  http" in out
            told = (await client.node("beast"))["devices"]
            assert [device.get("cuda_unavailable_reason") for device in told] == [None, "not compiled for it"]

    asyncio.run(scenario())


def test_where_no_gpu_can_be_used_the_neuron_is_asked_and_says_why():
    """Its refusal has the reason; that of a plan would be about memory."""

    async def scenario():
        beast = mixed_host(0, 1)
        async with beast, gateway([beast]) as client:
            assert (await client.get(f"/plan?model={A}")).json()["verdict"] == "load"

    asyncio.run(scenario())

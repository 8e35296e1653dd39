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

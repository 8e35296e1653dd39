"""Loads and unloads by hand, through the gateway."""

import asyncio

import pytest
from benchmarks.ports import free_port
from helpers.fake_neuron import FakeNeuron
from helpers.gateways import eventually, gateway
from helpers.waiting import until


def test_a_load_waits_and_says_where():
    """The answer is the neuron's own, with the node; loaded twice is loaded."""

    async def scenario():
        async with (
            FakeNeuron("a") as first,
            FakeNeuron("b", {"org/m": "unloaded"}) as second,
            gateway([first, second]) as client,
        ):
            for _ in range(2):
                response = await client.post(
                    "/models/load", json={"model_id": "org/m", "harness": "candle", "context": 2048}
                )
                assert (response.status_code, response.json()) == (200, {"status": "loaded", "node": "b"})
            assert [load["context"] for load in second.loads] == [2048]
            assert (await client.chat()).status_code == 200

    asyncio.run(scenario())


def test_a_load_can_be_followed_as_a_job():
    """With wait false the job comes at once, and GET /jobs/{id} finds it on its node."""

    async def scenario():
        async with (
            FakeNeuron("a") as first,
            FakeNeuron("b", {"org/m": "unloaded"}) as second,
            gateway([first, second]) as client,
        ):
            second.load_gate.clear()
            response = await client.post("/models/load", json={"model_id": "org/m", "wait": False})
            assert response.status_code == 202
            job_id = response.json()["job"]["id"]
            job = (await client.get(f"/jobs/{job_id}")).json()
            assert (job["stage"], job["node"], job["model_id"]) == ("loading", "b", "org/m")
            second.load_gate.set()
            assert (await client.get(f"/jobs/{job_id}?wait=20")).json()["stage"] == "done"
            assert (await client.get("/jobs/nobody")).status_code == 404
            assert (await client.get(f"/jobs/{job_id}?wait=soon")).status_code == 400

    asyncio.run(scenario())


def test_an_operator_may_load_what_no_profile_names():
    """By hand, a model may be fetched, on the node that was named, with the profile's pin set aside."""

    async def scenario():
        catalogue = {"models": [{"id": "org/pinned", "pinned_on": ["a"], "context": 4096}]}
        async with FakeNeuron("a") as first, FakeNeuron("b") as second, gateway([first, second], catalogue) as client:
            for model_id in ("org/new", "org/pinned"):
                response = await client.post("/models/load", json={"model_id": model_id, "node": "b", "quant": "Q8_0"})
                assert response.json() == {"status": "loaded", "node": "b"}
            assert [(load["quant"], load.get("context")) for load in second.loads] == [("Q8_0", None), ("Q8_0", 4096)]
            assert first.loads == []

    asyncio.run(scenario())


def test_a_failed_load_is_the_neurons_error():
    """The operator reads the neuron's words."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "unloaded"}) as neuron, gateway([neuron]) as client:
            neuron.load_failures["org/m"] = {"message": "the file is cut short", "code": "model_load_failed"}
            response = await client.post("/models/load", json={"model_id": "org/m"})
            assert (response.status_code, response.json()["error"]["message"]) == (502, "the file is cut short")

    asyncio.run(scenario())


def test_an_unload_takes_a_model_from_every_node():
    """Or from the one that is named; what is in no memory is 404."""

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as first,
            FakeNeuron("b", {"org/m": "loaded"}) as second,
            gateway([first, second]) as client,
        ):
            response = await client.post("/models/unload", json={"model_id": "org/m", "node": "b"})
            assert response.json() == {"status": "unloaded", "nodes": ["b"]}
            assert (first.unloads, len(second.unloads)) == ([], 1)
            response = await client.post("/models/unload", json={"model_id": "org/m", "if_idle_since": 5.0})
            assert response.json() == {"status": "unloaded", "nodes": ["a"]}
            assert first.unloads == [{"model_id": "org/m", "if_idle_since": 5.0}]
            response = await client.post("/models/unload", json={"model_id": "org/m"})
            assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/models/load", {}, 400, "model_id"),
        ("/models/load", {"model_id": "org/m", "node": "beats"}, 404, "known are: a, down"),
        ("/models/load", {"model_id": "org/m", "node": "down"}, 503, "no healthy nodes"),
        ("/models/load", {"model_id": "local-without-file"}, 404, "not found"),
        ("/models/load", {"model_id": "org/m", "context": "many"}, 400, "context"),
        ("/models/unload", {"node": "a"}, 400, "model_id"),
        ("/models/unload", {"model_id": "org/m", "node": "beats"}, 404, "known are: a, down"),
    ],
)
def test_a_mistake_is_named(path, body, status, words):
    """What was wrong and what would be right; no neuron is bothered."""

    async def scenario():
        down = {"name": "down", "endpoint": f"http://127.0.0.1:{free_port()}"}
        async with FakeNeuron("a") as neuron, gateway([neuron, down]) as client:
            response = await client.post(path, json=body)
            assert response.status_code == status
            assert words in response.json()["error"]["message"]
            assert neuron.loads == neuron.unloads == []

    asyncio.run(scenario())


def test_a_load_by_hand_joins_the_one_that_runs():
    """Where a neuron brings the model up already, it is asked, and no other one."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "unloaded"}) as first, FakeNeuron("b", {"org/m": "unloaded"}) as second:
            second.load_gate.clear()
            async with gateway([first, second]) as client:
                await client.post("/models/load", json={"model_id": "org/m", "node": "b", "wait": False})

                async def moving():
                    return [model["status"] for model in (await client.node("b"))["models"]] == ["loading"]

                await eventually(moving)
                response = await client.post("/models/load", json={"model_id": "org/m", "wait": False})
                assert response.json()["node"] == "b"
                second.load_gate.set()
                await until(lambda: second.models["org/m"]["status"] == "loaded")
                assert first.loads == []

    asyncio.run(scenario())

"""How a gateway says that it is there."""

import asyncio

from helpers.fake_neuron import FakeNeuron
from helpers.gateways import gateway


def test_health_answers_get_and_head_on_both_paths():
    """Load balancers ask in many ways; all of them get 200, HEAD without a body."""

    async def scenario():
        async with FakeNeuron("a") as neuron, gateway([neuron]) as client:
            for path in ("/", "/health"):
                assert (await client.get(path)).json()["status"] == "ok"
                head = await client.head(path)
                assert (head.status_code, head.content) == (200, b"")

    asyncio.run(scenario())


def test_a_failed_model_impairs_the_fleet():
    """All neurons answer, but something does not serve."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "failed"}) as neuron, gateway([neuron]) as client:
            neuron.models["org/m"]["error"] = "out of memory"
            assert (await client.get("/health")).json()["status"] == "impaired"

    asyncio.run(scenario())


def test_version_says_what_runs():
    """The same facts as `cortex version`."""

    async def scenario():
        async with gateway([]) as client:
            version = (await client.get("/version")).json()
            assert version["package_version"]
            assert (await client.get("/status")).json()["version"] == version

    asyncio.run(scenario())


def test_a_wait_that_is_no_number_is_refused():
    """Also the one that floats call so."""

    async def scenario():
        async with FakeNeuron("beast", {}) as beast, gateway([beast]) as client:
            for wait in ("soon", "nan"):
                response = await client.get(f"/jobs/1?wait={wait}")
                assert (response.status_code, response.json()["error"]["param"]) == (400, "wait")

    asyncio.run(scenario())

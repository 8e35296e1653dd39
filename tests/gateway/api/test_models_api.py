"""/v1/models: everything that the fleet serves or could serve."""

import asyncio

from helpers.fake_neuron import FakeNeuron
from helpers.gateways import free_port, gateway

CATALOGUE = {
    "models": [
        {
            "id": "org/profiled",
            "display_name": "Big",
            "limit": {"context": 8192},
            "cost": {"input": 0.0, "output": 1.5},
            "capabilities": ["text"],
        },
        {"id": "org/pinned-elsewhere", "pinned_on": ["nowhere"]},
    ],
    "aliases": {"big": "org/profiled", "dangling": "org/missing"},
}


def listing(neurons, catalogue=None):
    """Ids and entries, as a client sees them."""

    async def ask():
        async with gateway(neurons, catalogue) as client:
            body = (await client.get("/v1/models")).json()
            assert body["object"] == "list"
            return {entry["id"]: entry for entry in body["data"]}

    return ask()


def test_the_list_is_the_union_of_catalogue_neurons_and_disks():
    """Loaded, loading and unloaded models, profiles that fit somewhere, and aliases of these; not what cannot run."""

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded", "org/disk": "unloaded"}) as first,
            FakeNeuron("b", {"org/m": "unloaded", "org/next": "loading"}) as second,
        ):
            first.models["org/m"] |= {"vram_used_mb": 700, "context_length": 4096, "capabilities": ["text"]}
            second.models["org/m"] |= {"context_length": 2048}
            listed = await listing([first, second], CATALOGUE)
            assert set(listed) == {"org/m", "org/disk", "org/next", "org/profiled", "big"}
            assert listed["org/m"] == {
                "id": "org/m",
                "object": "model",
                "created": listed["org/m"]["created"],
                "owned_by": "cortex",
                "loaded": True,
                "feasible_on": ["a", "b"],
                "locations": [
                    {"node": "a", "status": "loaded", "vram_estimate_mb": 700},
                    {"node": "b", "status": "unloaded"},
                ],
                "capabilities": ["text"],
                "context_length": 4096,
                "max_model_len": 4096,
                "aliases": [],
                "display_name": "org/m",
            }
            assert isinstance(listed["org/m"]["created"], int)
            assert "context_length" not in listed["org/disk"]
            profiled = listed["org/profiled"]
            assert (profiled["loaded"], profiled["feasible_on"], profiled["locations"]) == (False, ["a", "b"], [])
            assert (profiled["cost"], profiled["context_length"], profiled["display_name"]) == (
                {"input": 0.0, "output": 1.5},
                8192,
                "Big",
            )
            assert listed["big"] == profiled | {"id": "big"}

    asyncio.run(scenario())


def test_a_profile_stays_listed_while_its_only_host_is_down():
    """A request for it is worth a retry, so it has not vanished; nothing is feasible right now."""

    async def scenario():
        down = {"name": "down", "endpoint": f"http://127.0.0.1:{free_port()}"}
        listed = await listing([down], {"models": [{"id": "org/profiled"}]})
        assert listed["org/profiled"]["feasible_on"] == []

    asyncio.run(scenario())


def test_one_model_is_found_by_its_id_in_both_spellings():
    """The slash of an id may be raw or escaped; aliases have their own page; unknown ids are 404."""

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as neuron,
            gateway([neuron], {"aliases": {"small/one": "org/m"}}) as client,
        ):
            for path, model_id in (("org/m", "org/m"), ("org%2Fm", "org/m"), ("small%2Fone", "small/one")):
                response = await client.get(f"/v1/models/{path}")
                assert (response.status_code, response.json()["id"]) == (200, model_id)
            response = await client.get("/v1/models/org/other")
            assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")

    asyncio.run(scenario())

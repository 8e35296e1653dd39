"""/v1/models: everything that the fleet serves or could serve."""

import asyncio

from benchmarks.ports import free_port
from helpers.fake_neuron import FakeNeuron
from helpers.gateways import eventually, gateway

from cortex.config.catalogue import Catalogue

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
                "max_input_tokens": 4096,
                "type": "model",
                "created_at": listed["org/m"]["created_at"],
                "lifecycle": "active",
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
            assert listed["big"] == profiled | {"id": "big", "display_name": "big"}

    asyncio.run(scenario())


def test_a_list_is_never_an_old_one():
    """It is written once for as long as nothing changes: a model that moves, a host that goes, a new alias, another client's shape."""

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as a,
            FakeNeuron("b", {"org/m": "unloaded"}) as b,
            gateway([a, b], poll_interval_secs=0.1, unhealthy_after=1) as client,
        ):

            async def places() -> dict[str, str]:
                data = (await client.get("/v1/models")).json()["data"]
                return {each["node"]: each["status"] for each in data[0]["locations"]}

            assert await places() == await places() == {"a": "loaded", "b": "unloaded"}
            b.models["org/m"]["status"] = "loaded"
            await eventually(lambda: reached(places, {"a": "loaded", "b": "loaded"}))
            await a.stop()
            await eventually(lambda: reached(places, {"b": "loaded"}))
            shaped = (await client.get("/v1/models", headers={"anthropic-version": "2023-06-01"})).json()
            assert shaped["data"][0]["capabilities"] is None
            change = client.handle.reconfiguration
            await change.apply(change._live.config, Catalogue.model_validate({"aliases": {"new": "org/m"}}))
            assert [each["id"] for each in (await client.get("/v1/models")).json()["data"]] == ["org/m", "new"]

    asyncio.run(scenario())


async def reached(told, wanted):
    return await told() == wanted


def test_a_profile_stays_listed_while_its_only_host_is_down():
    """A request for it is worth a retry, so it has not vanished; nothing is feasible right now."""

    async def scenario():
        down = {"name": "down", "endpoint": f"http://127.0.0.1:{free_port()}"}
        listed = await listing([down], {"models": [{"id": "org/profiled"}]})
        assert listed["org/profiled"]["feasible_on"] == []

    asyncio.run(scenario())


def test_a_profile_is_listed_while_its_host_has_never_answered():
    """The gateway has started after the host went down: what the catalogue says exists is worth another try, and no 404."""

    async def scenario():
        profile = {"models": [{"id": "local", "pinned_on": ["gone"]}]}
        gone = {"name": "gone", "endpoint": f"http://127.0.0.1:{free_port()}"}
        async with FakeNeuron("a", {"org/m": "loaded"}) as a, gateway([a, gone], profile) as client:
            listed = (await client.get("/v1/models")).json()["data"]
            assert [(each["id"], each["feasible_on"]) for each in listed] == [("local", []), ("org/m", ["a"])]
            told = await client.chat("local")
            assert (told.status_code, "retry-after" in told.headers) == (503, True)
            assert (await client.chat("nobody/knows")).status_code == 404

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


def test_an_alias_has_a_name_of_its_own():
    """What is shown to people is the alias's display name; the alias "*" is no model."""

    async def scenario():
        aliases = {"claude-own": {"model": "org/m", "display_name": "Our own"}, "*": "org/m"}
        async with FakeNeuron("a", {"org/m": "loaded"}) as neuron:
            listed = await listing([neuron], {"aliases": aliases})
            assert set(listed) == {"org/m", "claude-own"}
            assert listed["claude-own"]["display_name"] == "Our own"
            assert listed["org/m"]["aliases"] == ["claude-own"]

    asyncio.run(scenario())


def test_the_alias_for_everything_takes_only_what_nobody_knows():
    """A name that is unknown reaches the catch-all's model; known models and aliases stay what they are."""

    async def scenario():
        aliases = {"small": "org/m", "*": "org/any"}
        async with (
            FakeNeuron("a", {"org/m": "loaded", "org/any": "loaded"}) as neuron,
            gateway([neuron], {"aliases": aliases}) as client,
        ):
            for name in ("org/m", "small", "claude-haiku-9", "org/any"):
                assert (await client.chat(name)).status_code == 200
            assert [sent.json["model"] for sent in neuron.sent] == ["org/m", "org/m", "org/any", "org/any"]

    asyncio.run(scenario())


def test_codex_gets_an_empty_catalogue_of_its_own():
    """It asks with its version, fails without `models`, and knows enough of a model with an empty one; nobody else sees it."""

    async def scenario():
        async with FakeNeuron("n", {"a": "loaded"}) as neuron, gateway([neuron]) as client:
            for query, models in (("?client_version=0.169.0", []), ("", None)):
                body = (await client.get(f"/v1/models{query}")).json()
                assert [entry["id"] for entry in body["data"]] == ["a"]
                assert body.get("models") == models

    asyncio.run(scenario())


def test_anthropics_clients_get_pages_and_no_capabilities_of_ours():
    """Pages in both directions have their ends told; with `anthropic-version` there is nothing that their schema forbids."""

    async def scenario():
        models = dict.fromkeys(["a", "b", "c", "d"], "loaded")
        async with FakeNeuron("n", models) as neuron, gateway([neuron]) as client:

            async def ids(query):
                answer = await client.get(f"/v1/models?{query}", headers={"anthropic-version": "2023-06-01"})
                body = answer.json()
                assert all(entry["capabilities"] is None for entry in body["data"])
                found = [entry["id"] for entry in body["data"]]
                assert (body["first_id"], body["last_id"]) == ((found[0], found[-1]) if found else (None, None))
                return "".join(found), body["has_more"]

            assert await ids("") == ("abcd", False)
            assert await ids("limit=1000") == ("abcd", False)
            assert await ids("limit=3") == ("abc", True)
            assert await ids("limit=2&after_id=b") == ("cd", False)
            assert await ids("limit=1&after_id=b") == ("c", True)
            assert await ids("limit=1&before_id=c") == ("b", True)
            assert await ids("after_id=d") == ("", False)
            for wrong in ("limit=0", "limit=x", "limit=-1", "after_id=z"):
                answer = await client.get(f"/v1/models?{wrong}")
                assert (answer.status_code, answer.json()["error"]["param"]) == (400, wrong.partition("=")[0])

    asyncio.run(scenario())

"""What the gateway learns of its neurons, and what a broken one can do to it."""

import asyncio
import contextlib
from typing import Any

from benchmarks.ports import free_port
from helpers.fake_neuron import FakeNeuron, answer, hang
from helpers.gateways import eventually, gateway
from helpers.waiting import until

FAST: dict[str, Any] = {"poll_interval_secs": 0.05, "poll_timeout_secs": 0.5}


def test_a_gateway_knows_its_fleet_when_it_answers_first():
    """The first poll comes at once: models, devices and memory are in /status."""

    async def scenario():
        async with FakeNeuron("beast", {"org/a": "loaded", "org/b": "unloaded"}) as beast:
            beast.discovery["devices"] = [{"index": 0, "name": "RTX", "vram_total_mb": 24000}]
            beast.health |= {
                "devices": [{"index": 0, "vram_free_mb": 20000}],
                "models": [{"id": "org/a", "in_flight": 2}],
            }
            async with gateway([beast]) as client:
                node = await client.node("beast")
                assert (node["healthy"], node["misses"], node["hostname"]) == (True, 0, "beast")
                (device,) = node["devices"]
                assert (
                    device.items() >= {"index": 0, "name": "RTX", "vram_total_mb": 24000, "vram_free_mb": 20000}.items()
                )
                assert [(model["id"], model["status"], model.get("in_flight")) for model in node["models"]] == [
                    ("org/a", "loaded", 2),
                    ("org/b", "unloaded", None),
                ]
                assert (await client.get("/health")).json() == {"status": "ok", "nodes": {"healthy": 1, "total": 1}}

    asyncio.run(scenario())


def test_a_gpu_that_is_found_late_is_seen():
    """A driver that answers after the neuron's start does not leave the gateway with a host without GPUs."""

    async def scenario():
        async with FakeNeuron("beast", {"org/a": "loaded"}) as beast, gateway([beast], **FAST) as client:
            assert (await client.node("beast"))["devices"] == []
            beast.discovery["devices"] = [{"index": 0, "name": "RTX", "vram_total_mb": 24000}]
            beast.health["devices"] = [{"index": 0, "vram_free_mb": 20000}]

            async def seen():
                return [each["vram_total_mb"] for each in (await client.node("beast"))["devices"]] == [24000]

            await eventually(seen)

    asyncio.run(scenario())


def test_a_model_that_comes_and_goes_is_followed():
    """Newly loaded models are served, unreported ones are gone."""

    async def scenario():
        async with FakeNeuron("beast", {"org/a": "loaded"}) as beast, gateway([beast], **FAST) as client:
            beast.models["org/m"] = {"id": "org/m", "status": "loaded"}
            del beast.models["org/a"]

            async def ids():
                return [entry["id"] for entry in (await client.get("/v1/models")).json()["data"]]

            async def followed():
                return await ids() == ["org/m"]

            await eventually(followed)
            assert (await client.chat()).status_code == 200
            assert (await client.chat("org/a")).status_code == 404

    asyncio.run(scenario())


def test_a_neuron_that_stops_is_unhealthy_after_three_misses_and_comes_back():
    """Health goes from ok to impaired to ok, and the next success is enough."""

    async def scenario():
        async with (
            FakeNeuron("beast", {"org/m": "loaded"}) as beast,
            FakeNeuron("benjy") as benjy,
            gateway([beast, benjy], **FAST) as client,
        ):
            await beast.stop()

            async def is_down():
                return not (await client.node("beast"))["healthy"]

            await eventually(is_down)
            assert (await client.node("beast"))["misses"] >= 3
            assert (await client.get("/health")).json() == {
                "status": "impaired",
                "nodes": {"healthy": 1, "total": 2},
            }
            await beast.start()

            async def is_back():
                return (await client.node("beast"))["healthy"]

            await eventually(is_back)
            assert (await client.chat()).status_code == 200

    asyncio.run(scenario())


def test_status_says_why_a_neuron_is_down():
    """In words that name the fault: nothing listens there, or it wants another token; a success takes them back."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast], **FAST) as client:

            async def problem():
                return (await client.node("beast")).get("problem")

            async def is_well():
                return await problem() is None

            await beast.stop()
            assert "cannot be reached" in await eventually(problem)
            await beast.start()
            await eventually(is_well)
            beast.control = answer(401, b'{"error":{"message":"this neuron wants its token","code":"invalid_api_key"}}')
            assert "does not accept this gateway's token" in await eventually(problem)

    asyncio.run(scenario())


def test_a_token_between_gateway_and_neuron_is_no_fault_of_a_clients_key():
    """Loads are 502 with the reason then: a client that gets 401 looks for the mistake in its own key."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "unloaded"}) as beast, gateway([beast]) as client:
            beast.control = answer(401, b'{"error":{"message":"this neuron wants its token","code":"invalid_api_key"}}')
            for response in (await client.chat(), await client.post("/models/load", json={"model_id": "org/m"})):
                assert response.status_code == 502
                assert "does not accept this gateway's token" in response.json()["error"]["message"]

    asyncio.run(scenario())


def test_a_gateway_without_any_neuron_answers_and_says_so():
    """Health is degraded with status 200; inference is 503 with Retry-After and the known words."""

    async def scenario():
        async with gateway([{"name": "gone", "endpoint": f"http://127.0.0.1:{free_port()}"}]) as client:
            health = await client.get("/health")
            assert (health.status_code, health.json()) == (
                200,
                {"status": "degraded", "nodes": {"healthy": 0, "total": 1}},
            )
            response = await client.chat()
            assert response.status_code == 503
            assert "no healthy nodes" in response.json()["error"]["message"]
            assert response.json()["error"]["code"] == "service_unavailable"
            assert "retry-after" in response.headers

    asyncio.run(scenario())


def test_a_hung_neuron_delays_nobody():
    """The others are polled and served while one never answers."""

    async def scenario():
        async with FakeNeuron("hung") as hung, FakeNeuron("beast", {"org/m": "loaded"}) as beast:
            hung.control = hang
            async with gateway([hung, beast], poll_interval_secs=0.05) as client:
                assert (await client.chat()).status_code == 200
                seen = beast.polls
                await until(lambda: beast.polls > seen + 2)
                assert not (await client.node("hung"))["healthy"]

    asyncio.run(scenario())


GARBAGE = [
    b"",
    b"not json",
    b"[" * 100_000,
    b'{"models": []}',
    b"[1, 2]",
    b'[{"id": null}]',
    b'[{"id": "x", "status": 7, "devices": "all"}]',
    b'[{"id": "\xff"}]',
    b'[{"id": "x", "vram_used_mb": 1' + b"0" * 400 + b"}]",
    b'"' + b"x" * (9 * 1024 * 1024) + b'"',
]


def test_garbage_is_the_error_of_the_neuron_that_sends_it():
    """A neuron that talks nonsense, of whatever kind, is a missed poll; the rest of the fleet and every page of the gateway go on."""

    async def scenario():
        async with contextlib.AsyncExitStack() as stack:
            beast = await stack.enter_async_context(FakeNeuron("beast", {"org/m": "loaded"}))
            mad = [
                await stack.enter_async_context(FakeNeuron(f"mad{number}", {"org/m": "loaded"}))
                for number, _ in enumerate(GARBAGE)
            ]
            client = await stack.enter_async_context(gateway([beast, *mad], **FAST))

            async def healthy():
                return [node["name"] for node in (await client.get("/status")).json()["nodes"] if node["healthy"]]

            assert len(await healthy()) == 1 + len(mad)
            for neuron, garbage in zip(mad, GARBAGE, strict=True):
                neuron.control = answer(200, garbage)

            async def noticed():
                return await healthy() == ["beast"]

            await eventually(noticed)
            assert (await client.chat()).headers["x-cortex-node"] == "beast"
            for page in ("/health", "/status", "/v1/models", client.metrics_url):
                assert (await client.get(page)).status_code == 200

    asyncio.run(scenario())


def test_health_that_cannot_be_had_makes_no_neuron_unhealthy():
    """Only /models decides; a first-generation neuron may lack the rest."""

    async def scenario():
        async with FakeNeuron("old", {"org/m": "loaded"}) as old:
            old.instead = {"/health": answer(500, b"{}"), "/discovery": answer(404, b"")}
            async with gateway([old], **FAST) as client:
                assert (await client.chat()).status_code == 200
                assert (await client.node("old"))["healthy"]

    asyncio.run(scenario())


def test_the_address_of_a_model_is_asked_for_once():
    """Polls do not repeat the question while the model stays loaded."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast], **FAST) as client:
            assert (await client.chat()).status_code == 200
            seen = beast.polls
            await until(lambda: beast.polls > seen + 3)
            assert [path for path in beast.asked if path.endswith("/endpoint")] == ["/models/org%2Fm/endpoint"]

    asyncio.run(scenario())

"""A request for a model that is not loaded: a load is started or joined, and the request waits for it."""

import asyncio

import httpx
from helpers.fake_neuron import CHAT_ANSWER, STREAM_EVENTS, FakeNeuron
from helpers.gateways import eventually, gateway
from helpers.waiting import until

from cortex import web
from cortex.tasks import Tasks

PROFILE = {"models": [{"id": "org/m", "quant": "Q4_K_M"}]}
INSUFFICIENT = {"message": "needs 9000 MiB, 4000 are free", "type": "api_error", "code": "insufficient_vram"}


def test_a_request_loads_its_model_and_is_answered():
    """A file on disk is enough; the neuron is asked to load it and not to make the asker wait."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "unloaded"}) as beast, gateway([beast]) as client:
            response = await client.chat()
            assert (response.status_code, response.content) == (200, CHAT_ANSWER)
            assert beast.loads == [{"model_id": "org/m", "harness": "auto", "devices_required": False, "wait": False}]
            assert await client.metric('cortex_cold_starts_total{model="org/m",node="beast"}') == 1

    asyncio.run(scenario())


def test_a_profile_is_loaded_with_its_settings_where_nobody_has_the_file():
    """What the catalogue says goes to the neuron, which fetches it."""

    async def scenario():
        async with FakeNeuron("beast") as beast, gateway([beast], PROFILE) as client:
            assert (await client.chat()).status_code == 200
            assert beast.loads[0]["quant"] == "Q4_K_M"

    asyncio.run(scenario())


def test_many_requests_share_one_load():
    """The load is single-flight: the neuron hears of it once."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "unloaded"}) as beast, gateway([beast]) as client:
            beast.load_gate.clear()
            tasks = Tasks("test")
            running = [tasks.start(f"client {number}", client.chat(stream=number % 2 == 0)) for number in range(8)]
            await until(lambda: beast.loads)
            beast.load_gate.set()
            assert [(await task).status_code for task in running] == [200] * 8
            assert len(beast.loads) == 1

    asyncio.run(scenario())


def test_a_stream_gets_comments_while_it_waits():
    """Bytes come before the model does, as comments that name it, and then the neuron's own stream."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "unloaded"}) as beast, gateway([beast], keepalive_secs=0.05) as client:
            beast.load_gate.clear()
            received = bytearray()
            async with client.stream(
                "POST", "/v1/chat/completions", json={"model": "org/m", "stream": True}
            ) as response:
                assert response.headers["content-type"].startswith("text/event-stream")
                assert response.headers["x-accel-buffering"] == "no"
                async for piece in response.aiter_raw():
                    received += piece
                    if received.count(b": loading org/m\n\n") == 3:
                        beast.load_gate.set()
            comments, _, events = bytes(received).partition(b"data:")
            assert comments.replace(b": loading org/m\n\n", b"") == b""
            assert b"data:" + events == b"".join(STREAM_EVENTS)

    asyncio.run(scenario())


def test_a_load_that_was_begun_elsewhere_is_joined():
    """Another gateway's or an operator's load is waited for by its job, not started again."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "unloaded"}) as beast:
            beast.load_gate.clear()
            async with httpx.AsyncClient() as operator:
                assert (
                    await operator.post(f"{beast.endpoint}/models/load", json={"model_id": "org/m"})
                ).status_code == 202
            async with gateway([beast]) as client:
                tasks = Tasks("test")
                running = tasks.start("chat", client.chat())
                await until(lambda: "/jobs/beast-1" in beast.asked)
                beast.load_gate.set()
                assert (await running).status_code == 200
                assert len(beast.loads) == 1

    asyncio.run(scenario())


def test_a_load_that_fails_is_tried_on_the_next_neuron():
    """The client sees only the second neuron's answer."""

    async def scenario():
        async with FakeNeuron("a") as first, FakeNeuron("b") as second, gateway([first, second], PROFILE) as client:
            first.load_failures["org/m"] = INSUFFICIENT
            response = await client.chat()
            assert (response.status_code, response.headers["x-cortex-node"]) == (200, "b")
            assert (len(first.loads), len(second.loads)) == (1, 1)

    asyncio.run(scenario())


def test_a_load_that_fails_everywhere_is_the_neurons_error():
    """Code and message are the neuron's; insufficient memory is worth a retry, and nothing is tried twice."""

    async def scenario():
        async with FakeNeuron("a") as first, FakeNeuron("b") as second, gateway([first, second], PROFILE) as client:
            first.load_failures["org/m"] = {"message": "unsupported architecture", "code": "unsupported_architecture"}
            second.load_failures["org/m"] = INSUFFICIENT
            response = await client.chat()
            assert (response.status_code, response.json()["error"]["code"]) == (503, "insufficient_vram")
            assert response.headers["retry-after"] == "5"
            assert (len(first.loads), len(second.loads)) == (1, 1)
            second.load_failures["org/m"] = first.load_failures["org/m"]
            response = await client.chat()
            assert (response.status_code, response.json()["error"]["message"]) == (502, "unsupported architecture")

    asyncio.run(scenario())


def test_a_load_that_fails_after_comments_ends_the_stream_with_an_error_event():
    """The status is 200 by then; the client's last event is the error, whole."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "unloaded"}) as beast, gateway([beast], keepalive_secs=0.05) as client:
            beast.load_gate.clear()
            beast.load_failures["org/m"] = INSUFFICIENT
            received = b""
            async with client.stream(
                "POST", "/v1/chat/completions", json={"model": "org/m", "stream": True}
            ) as response:
                async for piece in response.aiter_raw():
                    received += piece
                    beast.load_gate.set()
            comments, _, event = received.partition(b"data: ")
            assert comments
            assert event.endswith(b"}\n\n")
            assert b'"code":"insufficient_vram"' in event

    asyncio.run(scenario())


def test_a_client_that_leaves_does_not_cancel_the_load():
    """One of two waiters leaves, then the other: the load goes on, and the next request finds the model."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "unloaded"}) as beast, gateway([beast]) as client:
            beast.load_gate.clear()
            tasks = Tasks("test")
            leaving, staying = tasks.start("leaves", client.chat()), tasks.start("stays", client.chat())
            await until(lambda: beast.loads)
            leaving.cancel()
            beast.load_gate.set()
            assert (await staying).status_code == 200
            beast.models["org/m"]["status"] = "unloaded"
            beast.load_gate.clear()
            alone = tasks.start("alone", client.chat())
            await until(lambda: len(beast.loads) == 2)
            alone.cancel()
            beast.load_gate.set()
            await until(lambda: beast.models["org/m"]["status"] == "loaded")
            assert (await client.chat()).status_code == 200
            assert len(beast.loads) == 2

    asyncio.run(scenario())


def test_waiting_for_a_load_has_an_end():
    """After load_timeout_secs a request gets 503 with Retry-After; the load is not lost."""

    async def scenario():
        async with (
            FakeNeuron("beast", {"org/m": "unloaded"}) as beast,
            gateway([beast], load_timeout_secs=0.3) as client,
        ):
            beast.load_gate.clear()
            response = await client.chat()
            assert (response.status_code, response.json()["error"]["code"]) == (503, "service_unavailable")
            assert "retry-after" in response.headers
            beast.load_gate.set()

            async def served():
                return (await client.chat()).status_code == 200

            await eventually(served)
            assert len(beast.loads) == 1

    asyncio.run(scenario())


def test_a_neuron_that_dies_while_loading_is_given_up():
    """The load goes to another neuron that can host the model."""

    async def scenario():
        async with FakeNeuron("a") as first, FakeNeuron("b") as second, gateway([first, second], PROFILE) as client:
            first.load_gate.clear()
            tasks = Tasks("test")
            running = tasks.start("chat", client.chat())
            await until(lambda: first.loads)
            await first.stop()
            response = await running
            assert (response.status_code, response.headers["x-cortex-node"]) == (200, "b")

    asyncio.run(scenario())


def test_a_synchronous_neuron_of_the_first_generation_is_loaded_too():
    """It answers the load only when it is done, with a status and without a job."""

    async def scenario():
        async with FakeNeuron("old") as old:

            async def synchronous(request):
                await old._load(request)
                await old.jobs["old-1"].done.wait()
                return web.json({"status": "loaded"})

            old.instead["/models/load"] = synchronous
            async with gateway([old], PROFILE) as client:
                assert (await client.chat()).status_code == 200

    asyncio.run(scenario())

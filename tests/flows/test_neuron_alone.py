"""A single neuron is useful by itself: load, chat, watch, unload, over HTTP and with a real engine."""

import asyncio
import stat

import pytest
from helpers.gateways import eventually
from helpers.live import DEMO, DEMO_MODEL, ENDLESS_MODEL, SCRIPTED, SCRIPTED_MODEL, endless, live, running_neuron
from helpers.processes import children
from helpers.waiting import until

from cortex.tasks import running

pytestmark = pytest.mark.model


def test_load_chat_and_unload(models_dir):
    """The life of a model as a script sees it, with the shapes of the first generation."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            assert await neuron.get("/models") == []
            missing = await neuron.chat(SCRIPTED, "hi")
            assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
            assert "not loaded" in missing.json()["error"]["message"]

            loaded = await neuron.load(SCRIPTED_MODEL)
            assert (loaded.status_code, loaded.json()["status"]) == (200, "loaded")
            (entry,) = await neuron.get("/models")
            assert (entry["id"], entry["harness"], entry["status"], entry["devices"]) == (
                SCRIPTED,
                "llamacpp",
                "loaded",
                [],
            )
            assert entry["vram_used_mb"] > 10
            assert await neuron.get(f"/models/{SCRIPTED}/endpoint") == {
                "url": f"http://localhost:{neuron.http.base_url.port}"
            }

            answer = (await neuron.chat(SCRIPTED, "hi")).json()
            assert answer["choices"][0]["message"]["content"] == "Hello from the scripted model."
            assert answer["model"] == SCRIPTED

            again = await neuron.load(SCRIPTED_MODEL)
            assert again.json()["status"] == "loaded"
            assert len(children()) == 1
            unloaded = await neuron.http.post("/models/unload", json={"model_id": SCRIPTED})
            assert unloaded.json() == {"status": "unloaded"}
            assert not children()
            assert await neuron.get("/models") == []
            twice = await neuron.http.post("/models/unload", json={"model_id": SCRIPTED})
            assert twice.status_code == 404

    asyncio.run(scenario())


def test_a_client_of_the_first_generation_is_served_on_a_cpu_host(models_dir):
    """`harness: candle`, a quant that the file has not, and `devices: [0]` are served, and the job says what was done."""

    async def scenario():
        async with running_neuron(models_dir, default_models=[{**DEMO_MODEL}]) as neuron:
            body = {"model_id": DEMO, "harness": "candle", "quant": "Q4_K_M", "devices": [0]}
            loaded = await neuron.http.post("/models/load", json=body)
            assert (loaded.status_code, loaded.json()["status"]) == (200, "loaded")
            answer = await neuron.chat(
                DEMO,
                "What is the capital of France? Respond with the city name only, no punctuation.",
                temperature=0.1,
                max_tokens=64,
                seed=7,
            )
            assert "Paris" in answer.json()["choices"][0]["message"]["content"]

    asyncio.run(scenario())


def test_what_was_done_about_missing_devices_and_quants_is_in_the_job(models_dir):
    """The notes of a load are there to be read."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            loaded = await neuron.load({**SCRIPTED_MODEL, "harness": "candle", "quant": "Q4_K_M", "devices": [0]})
            notes = " ".join(loaded.json()["notes"])
            assert "no GPU" in notes
            assert "Q4_K_M" in notes
            job = await neuron.get(f"/jobs/{loaded.json()['job_id']}")
            assert job["stage"] == "done"

    asyncio.run(scenario())


def test_two_loads_of_one_model_join(models_dir):
    """Five clients ask for the same model at once: one engine, five answers."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            answers = await asyncio.gather(*(neuron.load(SCRIPTED_MODEL) for _ in range(5)))
            assert {answer.json()["job_id"] for answer in answers} == {answers[0].json()["job_id"]}
            assert len(children()) == 1

    asyncio.run(scenario())


def test_a_load_can_be_followed_as_a_job(models_dir):
    """`wait: false` answers 202 with the job at once; `GET /jobs/{id}?wait=` tells its end; requests sent meanwhile wait for the model."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            started = await neuron.load({**SCRIPTED_MODEL, "wait": False})
            assert started.status_code == 202
            job = started.json()["job"]
            assert job["stage"] in ("queued", "loading")
            answer, ended = await asyncio.gather(
                neuron.chat(SCRIPTED, "hi"), neuron.get(f"/jobs/{job['id']}", params={"wait": 30})
            )
            assert ended["stage"] == "done"
            assert answer.json()["choices"][0]["message"]["content"].startswith("Hello")
            wrong = await neuron.http.get(f"/jobs/{job['id']}?wait=nan")
            assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "wait")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 400, "model_id"),
        ({"model_id": "nothing/here"}, 404, "nothing/here"),
        ({"model_id": SCRIPTED, "context": "many"}, 400, "context"),
        ({"model_id": SCRIPTED, "harness": "vllm"}, 400, "llamacpp"),
        ({"model_id": "../../etc/passwd"}, 404, "passwd"),
    ],
)
def test_a_load_that_cannot_be_says_what_is_wrong(models_dir, body, status, says):
    """Each mistake has its status and names what was wrong."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            answer = await neuron.http.post("/models/load", json=body)
            assert answer.status_code == status, answer.text
            assert says in answer.json()["error"]["message"]

    asyncio.run(scenario())


def test_a_load_that_does_not_fit_is_refused_with_the_numbers(models_dir):
    """A declared memory budget holds: needed, free and who is resident are in the refusal."""

    async def scenario():
        async with running_neuron(models_dir, limits={"memory_mb": 60}) as neuron:
            answer = await neuron.load(DEMO_MODEL)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (503, "insufficient_vram")
            assert error["required_mb"] > error["free_mb"] > 0
            assert "retry-after" in answer.headers
            begun = await neuron.load(DEMO_MODEL | {"wait": False})
            job = await neuron.get(f"/jobs/{begun.json()['job']['id']}?wait=20")
            assert job["error"]["required_mb"] == error["required_mb"]

    asyncio.run(scenario())


def test_default_models_load_after_the_port_is_open(models_dir):
    """Activation is told on /health; a model that cannot be loaded stops nothing."""

    async def scenario():
        models = [{"model_id": "not-here"}, SCRIPTED_MODEL]
        async with running_neuron(models_dir, default_models=models) as neuron:
            state = {}

            async def ready():
                state.update((await neuron.get("/health"))["activation"])
                return state["state"] == "ready"

            while not await ready():
                await asyncio.sleep(0.05)
            assert state["completed"] == [SCRIPTED]
            assert [failed["model_id"] for failed in state["failed"]] == ["not-here"]

    asyncio.run(scenario())


def test_an_idle_model_leaves_after_its_ttl_without_a_gateway(models_dir):
    """A single neuron gives its memory back by itself; while somebody uses the model it stays."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            assert (await neuron.load(SCRIPTED_MODEL | {"ttl": 0.5})).status_code == 200

            async def gone():
                return await neuron.get("/models") == []

            await eventually(gone)
            assert (await neuron.load(SCRIPTED_MODEL)).status_code == 200
            async with running(neuron.chat(SCRIPTED, "[[loop]]", max_tokens=2000), name="chat") as chat:

                async def busy():
                    return (await neuron.get("/health"))["models"][0]["in_flight"]

                await eventually(busy)
                told = await neuron.http.post("/models/keep", json={"model_id": SCRIPTED, "ttl": 0})
                assert told.status_code == 200
                whole = await chat
            assert (whole.status_code, whole.json()["usage"]["completion_tokens"]) == (200, 2000)
            await eventually(gone)

    asyncio.run(scenario())


def test_a_model_that_gives_way_finishes_and_takes_nothing_new(models_dir):
    """For as long as it was asked to: 503 with Retry-After, its place is kept for one model, and then all is as before."""
    give_way = {"model_id": SCRIPTED, "to": "another"}

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            await neuron.load(SCRIPTED_MODEL)
            async with running(neuron.chat(SCRIPTED, "[[loop]]", max_tokens=500), name="chat") as chat:

                async def busy():
                    return (await neuron.get("/health"))["models"][0]["in_flight"]

                await eventually(busy)
                told = await neuron.http.post("/models/yield", json=give_way | {"seconds": 60})
                assert told.status_code == 200
                assert (await neuron.load(DEMO_MODEL)).status_code == 409
                refused = await neuron.chat(SCRIPTED, "hi")
                assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
                assert (await neuron.get("/models"))[0]["yields"] is True
                assert (await chat).json()["usage"]["completion_tokens"] == 500
            await neuron.http.post("/models/yield", json=give_way | {"seconds": 0.01})

            async def serves():
                return (await neuron.chat(SCRIPTED, "hi")).status_code == 200

            await eventually(serves)
            assert "yields" not in (await neuron.get("/models"))[0]

    asyncio.run(scenario())


def test_a_model_that_was_only_just_loaded_is_no_victim(models_dir, monkeypatch):
    """Whoever waited for it is on the way; once it was used it leaves like any other."""
    monkeypatch.setattr("cortex.neuron.models.slot.EXPECTED_S", 600.0)

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            await neuron.load(SCRIPTED_MODEL)

            async def unload():
                since = (await neuron.get("/health"))["models"][0]["last_used"]
                return await neuron.http.post("/models/unload", json={"model_id": SCRIPTED, "if_idle_since": since})

            refused = await unload()
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "model_busy")
            await neuron.chat(SCRIPTED, "hi")
            assert (await unload()).status_code == 200

    asyncio.run(scenario())


def test_control_endpoints_answer_while_a_model_works(models_dir):
    """Discovery, health, models and jobs never wait on inference."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            await neuron.load(ENDLESS_MODEL)
            async with neuron.http.stream("POST", "/v1/chat/completions", json=endless()) as stream:
                pieces = stream.aiter_bytes()
                await anext(pieces)
                (model,) = (await neuron.get("/health"))["models"]
                assert model["in_flight"] == 1
                for path in ("/discovery", "/models", "/models?all=true", "/jobs", "/version", "/v1/models"):
                    await neuron.get(path)
                metrics = (await neuron.http.get("/metrics")).text
                assert 'neuron_model_in_flight{model="scripted"} 1.0' in metrics

    asyncio.run(scenario())


def test_a_client_that_leaves_stops_the_generation(models_dir):
    """After a disconnect the place is free and the engine's slot is idle, though thousands of tokens were to come."""

    async def scenario():
        async with running_neuron(models_dir, default_models=[]) as neuron:
            await neuron.load({**ENDLESS_MODEL, "max_in_flight": 1})
            async with neuron.http.stream("POST", "/v1/chat/completions", json=endless()) as stream:
                await anext(stream.aiter_bytes())
            figures = {}

            async def in_flight():
                figures.update((await neuron.get("/health"))["models"][0])
                return figures["in_flight"]

            while await in_flight():
                await asyncio.sleep(0.01)
            answer = await neuron.chat(SCRIPTED, "hi")
            assert answer.json()["choices"][0]["message"]["content"].startswith("Hello")

    asyncio.run(scenario())


def test_over_capacity_is_refused_fast_with_retry_after(models_dir):
    """One works, one waits, the third is told 429."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            await neuron.load({**ENDLESS_MODEL, "max_in_flight": 1, "max_queue_depth": 0})
            async with neuron.http.stream("POST", "/v1/chat/completions", json=endless()) as stream:
                await anext(stream.aiter_bytes())
                refused = await neuron.chat(SCRIPTED, "hi")
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            assert int(refused.headers["retry-after"]) >= 1

    asyncio.run(scenario())


@pytest.mark.parametrize("depth", [300, 1000])
def test_a_body_that_nests_too_deeply_is_the_callers_mistake(models_dir, depth):
    """A parser takes more levels than a writer: 400 that says so, where a field is unknown and where a forced tool's schema is."""
    deep, schema = "[" * depth + "]" * depth, '{"x":' * depth + "1" + "}" * depth
    tool = f'"tool_choice": "required", "tools": [{{"type": "function", "function": {{"name": "f", "parameters": {schema}}}}}]'

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            await neuron.load(SCRIPTED_MODEL)
            for path, more in (
                ("chat/completions", f'"x": {deep}'),
                ("chat/completions", tool),
                ("chat/completions/input_tokens", f'"x": {deep}'),
            ):
                body = f'{{"model": "{SCRIPTED}", "max_tokens": 1, "messages": [{{"role": "user", "content": "hi"}}], {more}}}'
                told = await neuron.http.post(f"/v1/{path}", content=body)
                assert (told.status_code, told.json()["error"]["type"]) == (400, "invalid_request_error"), path
                assert "nested too deeply" in told.text

    asyncio.run(scenario())


def test_the_engines_socket_is_private(models_dir, socket_dir):
    """The socket is 0600 in a folder that is 0700, and both are gone afterwards."""

    async def scenario():
        async with running_neuron(models_dir, runtime_dir=str(socket_dir)) as neuron:
            await neuron.load(SCRIPTED_MODEL)
            (folder,) = socket_dir.iterdir()
            (socket,) = folder.iterdir()
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert stat.S_IMODE(socket.stat().st_mode) == 0o600
            assert stat.S_ISSOCK(socket.stat().st_mode)

    asyncio.run(scenario())
    assert list(socket_dir.iterdir()) == []


def test_leaving_the_neuron_drains_and_ends_every_engine(models_dir):
    """A stream in flight at shutdown gets its end, or a well-formed error event; no process is left."""

    async def scenario():
        text = bytearray()

        async def read(url):
            async with (
                live(url) as client,
                client.http.stream("POST", "/v1/chat/completions", json=endless()) as stream,
            ):
                async for piece in stream.aiter_bytes():
                    text.extend(piece)

        async with asyncio.TaskGroup() as group, running_neuron(models_dir, limits={"drain_secs": 0.2}) as neuron:
            await neuron.load(ENDLESS_MODEL)
            group.create_task(read(neuron.url))
            await until(lambda: bytes(text).count(b"data:") > 3)
            engines = children()
        return bytes(text), engines

    text, engines = asyncio.run(scenario())
    assert len(engines) == 1
    assert not children()
    assert text.rstrip().endswith(b"}")
    assert b'"error"' in text.rsplit(b"data: ", 1)[1]

"""A neuron's control plane, asked by a gateway: typed answers or a NeuronError."""

import asyncio
import contextlib

import pytest
from benchmarks.ports import free_port
from helpers.fake_neuron import FakeNeuron, answer, hang

from cortex.config.gateway import NeuronRef
from cortex.gateway.fleet.client import NeuronClient, NeuronError, NeuronRefusal, new_pool
from cortex.wire.errors import error_of
from cortex.wire.fleet import LoadRequest


@contextlib.asynccontextmanager
async def client_of(ref, timeout_s=5.0):
    async with new_pool() as pool:
        yield NeuronClient(ref, pool, timeout_s=timeout_s, load_timeout_s=timeout_s)


def test_a_neuron_is_asked_in_its_own_words():
    """Files on disk are asked for, ids are escaped, addresses are rewritten, a load gives its job."""

    async def scenario():
        async with (
            FakeNeuron("beast", {"org/m": "loaded", "org/disk": "unloaded"}) as beast,
            client_of(beast.ref) as client,
        ):
            assert [(entry.id, entry.status) for entry in await client.models()] == [
                ("org/m", "loaded"),
                ("org/disk", "unloaded"),
            ]
            assert (await client.discovery()).hostname == "beast"
            assert (await client.health()).memory_free_mb == 4000
            assert str(await client.inference_address("org/m")) == beast.endpoint
            job = await client.load(LoadRequest(model_id="org/disk", wait=False))
            assert job is not None
            assert (await client.job(job.id, wait_s=5)).finished
            assert await client.load(LoadRequest(model_id="org/disk", wait=False)) is None

    asyncio.run(scenario())


def test_already_loaded_is_loaded():
    """The first generation refuses with 400 what is there already."""

    async def scenario():
        async with FakeNeuron("old") as old, client_of(old.ref) as client:
            old.control = answer(400, b'{"error":"model \'org/m\' already loaded"}')
            assert await client.load(LoadRequest(model_id="org/m")) is None

    asyncio.run(scenario())


@pytest.mark.parametrize("port_is_open", [True, False])
def test_a_neuron_that_does_not_answer_is_an_error_in_time(port_is_open):
    """Every call has an end, whether the neuron hangs or is not there."""

    async def scenario():
        async with FakeNeuron("hung") as hung:
            hung.control = hang
            ref = hung.ref if port_is_open else NeuronRef(name="gone", endpoint=f"http://127.0.0.1:{free_port()}")
            async with client_of(ref, timeout_s=0.2) as client:
                for ask in (
                    client.models,
                    client.health,
                    lambda: client.job("x"),
                    lambda: client.load(LoadRequest(model_id="m")),
                ):
                    with pytest.raises(NeuronError, match=ref.name):
                        await ask()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "body", "message", "code"),
    [
        (400, b'{"error":"no GGUF match"}', "no GGUF match", None),
        (
            422,
            b'{"error":{"message":"no such quant","code":"quant_not_found","available":["Q4_K_M"]}}',
            "no such quant",
            "quant_not_found",
        ),
        (503, b'{"error":{"message":"full","code":"insufficient_vram","free_mb":1}}', "full", "insufficient_vram"),
        (500, b"", "without a reason", None),
        (404, b"[]", "without a reason", None),
        (302, b"{}", "without a reason", None),
    ],
)
def test_a_refusal_keeps_what_the_neuron_said(status, body, message, code):
    """Nested and flat errors are read alike; retryable are 429 and 503; a redirect is nonsense."""

    async def scenario():
        async with FakeNeuron("beast") as beast, client_of(beast.ref) as client:
            beast.control = answer(status, body)
            with pytest.raises(NeuronRefusal) as refused:
                await client.load(LoadRequest(model_id="org/m"))
            error = refused.value.error
            assert error.status == (status if status >= 400 else 502)
            assert message in error.message
            assert error.code == code
            assert (error.retry_after is not None) == (status == 503)

    asyncio.run(scenario())


def test_an_environments_proxy_does_not_stand_between(monkeypatch):
    """The fleet is asked directly whatever HTTP_PROXY says."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "")

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, client_of(beast.ref) as client:
            assert len(await client.models()) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("said", "status", "retryable"),
    [
        ({"message": "x", "code": "insufficient_vram"}, 503, True),
        ({"message": "x", "code": "model_not_found"}, 404, False),
        ({"message": "x", "code": "unsupported_architecture"}, 502, False),
        ({"message": 7, "code": ["a"]}, 502, False),
        ("words", 502, False),
        (None, 502, False),
    ],
)
def test_a_jobs_error_becomes_a_status(said, status, retryable):
    """A job has no status of its own: the code tells whether trying again helps."""
    error = error_of(said)
    assert (error.status, error.retry_after is not None) == (status, retryable)
    assert error.message

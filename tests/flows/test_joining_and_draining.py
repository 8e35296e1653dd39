"""Neurons come by their own word, leave by it or by silence, and are taken out of service by an operator."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest
from benchmarks.ports import free_port
from helpers.fake_neuron import CHAT_ANSWER, FakeNeuron
from helpers.gateways import Client, eventually, gateway
from helpers.live import SCRIPTED, SCRIPTED_MODEL, neuron_config, running_neuron
from helpers.upstream import FakeUpstream, Peer
from helpers.waiting import until

from cortex.cli import main
from cortex.config.loader import ConfigError
from cortex.neuron import app as neuron_app

TOKEN = "fleet-token"
BEARER = {"authorization": f"Bearer {TOKEN}"}
FAST: dict[str, Any] = {"poll_interval_secs": 0.1}


async def members(client: Client) -> list[tuple[str, bool, bool]]:
    nodes = (await client.get("/status")).json()["nodes"]
    return [(node["name"], node["joined"], node["healthy"]) for node in nodes]


def join(client: Client, **more: object) -> dict[str, object]:
    """The `[join]` table of a neuron."""
    return {"gateways": [str(client.base_url)], "interval_secs": 0.2, "name": "beast", **more}


async def announce(client: Client, neuron: FakeNeuron, *, verb: str = "join", **more: object) -> httpx.Response:
    said = {"name": neuron.name, "endpoint": neuron.endpoint, "interval_secs": 0.2, **more}
    return await client.post(f"/neurons/{verb}", json=said, headers=BEARER)


def test_a_neuron_joins_and_leaves_by_its_own_word(tmp_path):
    """It is a member at its first word, healthy at the first poll with the shared token, and gone when it stops."""

    async def scenario():
        async with gateway([], neuron_token=TOKEN, **FAST) as client:
            config = neuron_config(tmp_path, token=TOKEN, join=join(client))
            async with neuron_app.running(config):

                async def healthy():
                    return await members(client) == [("beast", True, True)]

                await eventually(healthy)
            assert await members(client) == []

    asyncio.run(scenario())


def test_a_gateway_that_restarts_has_its_neurons_back(tmp_path):
    """Nothing is kept at the gateway that the neurons do not say again."""
    port = free_port()

    async def scenario():
        settings: dict[str, Any] = {"neuron_token": TOKEN, "listen": f"127.0.0.1:{port}", **FAST}
        table = {"gateways": [f"http://127.0.0.1:{port}"], "interval_secs": 0.2, "name": "beast"}
        async with neuron_app.running(neuron_config(tmp_path, token=TOKEN, join=table)):
            for _ in range(2):
                async with gateway([], **settings) as client:

                    async def healthy(client: Client = client) -> bool:
                        return await members(client) == [("beast", True, True)]

                    await eventually(healthy)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "said"),
    [(200, b"{}"), (200, b"[]"), (200, b"<html>"), (502, b"null"), (502, b'{"error": "bad gateway"}')],
)
def test_a_neuron_is_not_silenced_by_what_answers_in_a_gateways_place(tmp_path, status, said):
    """A proxy before it, or another program on its port, may say anything: the neuron goes on to announce itself, and can be stopped."""
    answer = b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(said), said)

    async def scenario():
        async with FakeUpstream([Peer.request, answer]) as upstream:
            table = {"gateways": [upstream.url], "interval_secs": 0.2, "name": "beast"}
            async with neuron_app.running(neuron_config(tmp_path, token=TOKEN, join=table)):
                await until(lambda: len(upstream.peers) > 1)

    asyncio.run(scenario())


def catalogue_of(client: Client):
    return client.handle.reconfiguration._live.catalogue


def test_a_joined_neuron_serves_and_leaves_by_silence(caplog):
    """Requests go to it as to a configured one, for as long as it says that it is there."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded"}) as a, gateway([], neuron_token=TOKEN, **FAST) as client:
            assert (await announce(client, a)).json() == {"status": "joined"}

            async def served():
                return (await client.chat()).content == CHAT_ANSWER

            await eventually(served)
            assert a.sent[-1].headers["authorization"] == f"Bearer {TOKEN}"

            async def gone():
                return await members(client) == []

            await eventually(gone)
            assert (await client.chat()).status_code == 503
        assert "neuron 'a' fell silent and has left" in caplog.text

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("token", "shown", "status"),
    [(None, TOKEN, 403), (TOKEN, "wrong", 401), (TOKEN, "", 401)],
    ids=["no token at the gateway", "another token", "no token shown"],
)
def test_without_the_shared_token_nobody_joins(caplog, token, shown, status):
    """Neither side's silence about a token opens the door, and no secret is logged."""
    caplog.set_level(logging.DEBUG)

    async def scenario():
        settings: dict[str, Any] = {"neuron_token": token} if token else {}
        async with FakeNeuron("a") as a, gateway([], **settings) as client:
            headers = {"authorization": f"Bearer {shown}"} if shown else {}
            for verb in ("join", "leave"):
                body = {"name": "a", "endpoint": a.endpoint}
                assert (await client.post(f"/neurons/{verb}", json=body, headers=headers)).status_code == status
            assert await members(client) == []
            assert a.asked == []

    asyncio.run(scenario())
    assert TOKEN not in caplog.text


def test_a_neuron_without_a_token_cannot_be_told_to_join(tmp_path):
    """It says so when it is configured, and not by being ignored."""
    with pytest.raises(ConfigError, match="join: wants token_file"):
        neuron_config(tmp_path, join={"gateways": ["http://10.0.0.1:31313"]})


def test_a_configured_name_wins_over_a_joined_one():
    """A neuron that both sides name is configured; a stranger with its name is refused; a new entry takes over who had joined."""

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as a,
            FakeNeuron("a") as stranger,
            FakeNeuron("b") as b,
            gateway([a], neuron_token=TOKEN, **FAST) as client,
        ):
            assert (await announce(client, a)).json() == {"status": "configured"}
            refused = await announce(client, stranger)
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "name_taken")
            assert (await announce(client, b)).json() == {"status": "joined"}
            assert (await announce(client, stranger, verb="leave")).json() == {"status": "left"}
            assert ("a", False, True) in await members(client)
            change = client.handle.reconfiguration
            config = change._live.config.model_copy(update={"neurons": (a.ref, b.ref)})
            await change.apply(config, catalogue_of(client))
            assert [(name, joined) for name, joined, _ in await members(client)] == [("a", False), ("b", False)]

    asyncio.run(scenario())


def test_a_joined_neuron_keeps_its_models_on_its_own_host(caplog):
    """Who came by its own word is not believed when it points at other hosts."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded"}) as a, gateway([], neuron_token=TOKEN, **FAST) as client:
            a.inference_url = "http://10.255.0.1:80"
            await announce(client, a, interval_secs=30)

            async def polled():
                return await members(client) == [("a", True, True)]

            await eventually(polled)
            assert (await client.chat()).status_code == 503
        assert "on another host than the neuron" in caplog.text

    asyncio.run(scenario())


def test_a_drained_neuron_is_so_after_a_restart(tmp_path):
    """A host under repair takes nothing until its operator says so; no process on it or in front of it has to remember."""

    async def scenario():
        async with running_neuron(tmp_path) as neuron:
            assert (await neuron.http.post("/drain")).json() == {"draining": True, "in_flight": 0}
        async with running_neuron(tmp_path) as neuron:
            assert (await neuron.get("/health"))["draining"]
            refused = await neuron.load(SCRIPTED_MODEL)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
            assert (await neuron.http.post("/undrain")).json()["draining"] is False
        async with running_neuron(tmp_path) as neuron:
            assert not (await neuron.get("/health"))["draining"]

    asyncio.run(scenario())


@pytest.mark.model
def test_default_models_of_a_drained_neuron_wait_until_it_is_back(models_dir, tmp_path):
    """They are not given up meanwhile."""
    more: dict[str, Any] = {"state_dir": str(tmp_path), "default_models": [SCRIPTED_MODEL]}

    async def scenario():
        async with running_neuron(models_dir, state_dir=str(tmp_path)) as neuron:
            await neuron.http.post("/drain")
        async with running_neuron(models_dir, **more) as neuron:
            assert (await neuron.get("/health"))["activation"]["pending"] == [SCRIPTED]
            await neuron.http.post("/undrain")

            async def loaded():
                return (await neuron.get("/health"))["activation"]["completed"] == [SCRIPTED]

            await eventually(loaded)

    asyncio.run(scenario())


@pytest.mark.model
def test_a_drained_neuron_finishes_and_takes_nothing_new(models_dir, tmp_path, capsys):
    """`cortex drain` lets a running stream end whole; new requests and loads go to the other, or get 503; `undrain` ends it."""

    async def scenario():
        async with (
            running_neuron(models_dir, state_dir=str(tmp_path / "a")) as first,
            running_neuron(models_dir, state_dir=str(tmp_path / "b")) as second,
            gateway([{"name": "a", "endpoint": first.url}, {"name": "b", "endpoint": second.url}], **FAST) as client,
        ):
            await first.load(SCRIPTED_MODEL)
            await second.load(SCRIPTED_MODEL)
            endpoint = str(client.base_url)

            async def settled():
                entry = next(
                    entry for entry in (await client.get("/v1/models")).json()["data"] if entry["id"] == SCRIPTED
                )
                return [place["status"] for place in entry["locations"]] == ["loaded", "loaded"]

            await eventually(settled)
            body = {
                "model": SCRIPTED,
                "stream": True,
                "max_tokens": 400,
                "messages": [{"role": "user", "content": "[[loop]]"}],
            }

            async def drained_while(stream: httpx.Response) -> bytes:
                pieces = [await anext(chunks := stream.aiter_bytes())]
                assert await asyncio.to_thread(main, ["drain", "a", "-e", endpoint, "--json"]) == 0
                pieces += [piece async for piece in chunks]
                return b"".join(pieces)

            async with client.stream("POST", "/v1/chat/completions", json=body) as stream:
                assert stream.headers["x-cortex-node"] == "a"
                text = await drained_while(stream)
            assert text.endswith(b"data: [DONE]\n\n")
            assert b'"error"' not in text
            assert json.loads(capsys.readouterr().out)["draining"] is True
            for _ in range(4):
                assert (await client.chat(SCRIPTED, max_tokens=2)).headers["x-cortex-node"] == "b"
            refused = await first.chat(SCRIPTED, "hi")
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
            assert (await first.load({"model_id": "other"})).status_code == 503
            assert (await client.node("a"))["draining"] is True
            assert await asyncio.to_thread(main, ["drain", "a", "-e", endpoint, "--wait"]) == 0
            assert "no requests still there" in capsys.readouterr().out
            assert await asyncio.to_thread(main, ["undrain", "a", "-e", endpoint]) == 0
            assert (await client.chat(SCRIPTED, max_tokens=2)).headers["x-cortex-node"] == "a"

    asyncio.run(scenario())


@pytest.mark.parametrize(("node", "says"), [("nobody", "known are: a"), ("a", "cannot be drained")])
def test_a_drain_that_cannot_be_says_why(capsys, node, says):
    """An unknown name lists the known ones; a neuron of another version is named as that."""

    async def scenario():
        async with FakeNeuron("a") as a, gateway([a]) as client:
            assert await asyncio.to_thread(main, ["drain", node, "-e", str(client.base_url)]) == 1

    asyncio.run(scenario())
    assert says in capsys.readouterr().err

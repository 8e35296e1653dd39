"""`[responses] store = true` over HTTP: requests that follow others, and what is kept of them."""

import asyncio
import signal
from typing import Any

import httpx
import pytest
from helpers.fake_neuron import FakeNeuron, hold_at
from helpers.gateways import gateway
from helpers.roles import running_role

from cortex.config.catalogue import Catalogue

MODELS = {"org/m": "loaded"}
ASK = {"model": "org/m", "input": "hi"}
KEYS = {
    "require_auth": True,
    "keys": [{"key": "k-alice", "account_id": "alice"}, {"key": "k-bob", "account_id": "bob"}],
}


def stored(tmp_path, **more) -> dict[str, Any]:
    return {"store": True, "database": str(tmp_path / "responses.sqlite"), **more}


def sent_messages(neuron: FakeNeuron) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in neuron.sent[-1].json["messages"]]


async def streamed(client: httpx.AsyncClient, **fields: Any) -> str:
    """The id of a streamed response."""
    text = (await client.post("/v1/responses", json=ASK | {"stream": True} | fields)).text
    assert "response.completed" in text, text
    return "resp_" + text.partition('"id":"resp_')[2].partition('"')[0]


def test_a_request_follows_another_streamed_or_not(tmp_path):
    """The model is shown the whole conversation; what is kept can be asked for, listed and deleted."""

    async def scenario():
        async with FakeNeuron("beast", MODELS) as beast, gateway([beast], responses=stored(tmp_path)) as client:
            first = (await client.post("/v1/responses", json=ASK)).json()
            assert (first["store"], first["previous_response_id"]) == (True, None)
            second = await streamed(client, input="and?", previous_response_id=first["id"])
            third = (await client.post("/v1/responses", json=ASK | {"previous_response_id": second})).json()
            assert third["previous_response_id"] == second
            assert sent_messages(beast) == [
                ("user", "hi"),
                ("assistant", "Paris"),
                ("user", "and?"),
                ("assistant", "Paris"),
                ("user", "hi"),
            ]
            assert (await client.get(f"/v1/responses/{third['id']}")).json() == third
            items = (await client.get(f"/v1/responses/{third['id']}/input_items?order=asc")).json()
            assert [item["role"] for item in items["data"]] == ["user", "assistant"] * 2 + ["user"]
            gone = (await client.delete(f"/v1/responses/{first['id']}")).json()
            assert gone == {"id": first["id"], "object": "response", "deleted": True}
            assert (await client.get(f"/v1/responses/{first['id']}")).status_code == 404
            assert (await client.post("/v1/responses", json=ASK | {"previous_response_id": second})).is_success
            after = await client.post("/v1/responses", json=ASK | {"previous_response_id": first["id"]})
            assert (after.status_code, after.json()["error"]["code"]) == (400, "previous_response_not_found")

    asyncio.run(scenario())


def test_what_is_not_to_be_kept_is_not(tmp_path):
    """`store: false`, a client that left in mid-answer, and an answer that failed."""

    async def scenario():
        async with FakeNeuron("beast", MODELS) as beast, gateway([beast], responses=stored(tmp_path)) as client:
            first = (await client.post("/v1/responses", json=ASK | {"store": False})).json()
            assert first["store"] is False
            assert (await client.get(f"/v1/responses/{first['id']}")).status_code == 404
            beast.step = hold_at(2)
            async with client.stream("POST", "/v1/responses", json=ASK | {"stream": True}) as stream:
                chunk = await anext(stream.aiter_text())
            left = "resp_" + chunk.partition('"id":"resp_')[2].partition('"')[0]
            assert (await client.get(f"/v1/responses/{left}")).status_code == 404

    asyncio.run(scenario())


def test_a_keys_answers_are_its_own(tmp_path):
    """Another key is told that there is no such response, whatever it tries."""

    async def scenario():
        settings = {"responses": stored(tmp_path), "entitlements": KEYS}
        async with FakeNeuron("beast", MODELS) as beast, gateway([beast], **settings) as client:
            alice, bob = {"x-api-key": "k-alice"}, {"authorization": "Bearer k-bob"}
            first = (await client.post("/v1/responses", json=ASK, headers=alice)).json()
            place = f"/v1/responses/{first['id']}"
            for ask in (client.get(place, headers=bob), client.get(f"{place}/input_items", headers=bob)):
                assert (await ask).status_code == 404
            assert (await client.delete(place, headers=bob)).status_code == 404
            assert (await client.get(place)).status_code == 401
            follow = ASK | {"previous_response_id": first["id"]}
            assert (await client.post("/v1/responses", json=follow, headers=bob)).status_code == 400
            named = ASK | {"input": [{"type": "item_reference", "id": first["output"][0]["id"]}]}
            assert (await client.post("/v1/responses", json=named, headers=bob)).status_code == 400
            assert len(beast.sent) == 1
            assert (await client.post("/v1/responses", json=follow, headers=alice)).is_success
            assert (await client.post("/v1/responses", json=named, headers=alice)).is_success

    asyncio.run(scenario())


def test_gateways_of_a_host_share_what_is_kept(tmp_path):
    """A conversation goes on at another gateway."""

    async def scenario():
        async with (
            FakeNeuron("beast", MODELS) as beast,
            gateway([beast], responses=stored(tmp_path)) as one,
            gateway([beast], responses=stored(tmp_path)) as other,
        ):
            first = await streamed(one)
            assert (await other.post("/v1/responses", json=ASK | {"previous_response_id": first})).is_success
            assert len(sent_messages(beast)) == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("what", ["", "/input_items"])
def test_while_it_is_off_the_setting_is_named(what):
    """400 for whatever would need a store, and nothing is sent to a model; the rest is answered as ever."""

    async def scenario():
        async with FakeNeuron("beast", MODELS) as beast, gateway([beast]) as client:
            refused = [
                await client.get(f"/v1/responses/resp_1{what}"),
                await client.delete("/v1/responses/resp_1"),
                await client.post("/v1/responses", json=ASK | {"store": True}),
                await client.post("/v1/responses", json=ASK | {"previous_response_id": "resp_1"}),
            ]
            for response in refused:
                assert response.status_code == 400
                assert "[responses] store = true" in response.json()["error"]["message"]
            assert beast.sent == []
            assert (await client.post("/v1/responses", json=ASK)).json()["store"] is False

    asyncio.run(scenario())


def test_it_is_turned_on_and_off_while_the_gateway_runs(tmp_path):
    """A new configuration holds from the next request on; what was kept is there again when it is on again."""

    async def scenario():
        settings = stored(tmp_path)
        async with FakeNeuron("beast", MODELS) as beast, gateway([beast], responses=settings) as client:
            first = (await client.post("/v1/responses", json=ASK)).json()["id"]
            for on, status in ((False, 400), (True, 200)):
                live = client.handle.reconfiguration._live
                section = live.config.responses.model_copy(update={"store": on})
                config = live.config.model_copy(update={"responses": section})
                await client.handle.reconfiguration.apply(config, Catalogue())
                assert (await client.get(f"/v1/responses/{first}")).status_code == status

    asyncio.run(scenario())


def test_what_was_told_survives_a_kill(tmp_path):
    """A gateway that is killed the moment after its answer still knows it when it is started again."""
    config = tmp_path / "cortex.toml"

    async def scenario():
        async with FakeNeuron("beast", MODELS) as beast:
            config.write_text(
                f'[gateway]\nlisten = "127.0.0.1:0"\n[responses]\nstore = true\ndatabase = "r.sqlite"\n'
                f'[[neurons]]\nname = "beast"\nendpoint = "{beast.endpoint}"\n'
            )
            first = await asyncio.to_thread(killed_after_an_answer)
            follow = ASK | {"previous_response_id": first}
            assert (await asyncio.to_thread(asked, follow))["previous_response_id"] == first
            assert len(sent_messages(beast)) == 3

    def killed_after_an_answer() -> str:
        with running_role("--role", "gateway", "--config", config) as role:
            told = httpx.post(f"{role.url}/v1/responses", json=ASK, timeout=20).json()
            role.end(signal.SIGKILL)
        identity: str = told["id"]
        return identity

    def asked(body: dict[str, Any]) -> Any:
        with running_role("--role", "gateway", "--config", config) as role:
            return httpx.post(f"{role.url}/v1/responses", json=body, timeout=20).json()

    asyncio.run(scenario())

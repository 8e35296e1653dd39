"""Who may do what at a gateway, over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.fake_neuron import FakeNeuron
from helpers.gateways import Client, gateway

from cortex.config.catalogue import Catalogue

ALICE, BOB, ROOT = "sk-alice-73", "sk-bob-73", "sk-root-73"
KEYS: list[dict[str, Any]] = [
    {"sha256": hashlib.sha256(ALICE.encode()).hexdigest(), "account_id": "alice", "models": ["org/m", "tiny"]},
    {"key": BOB, "account_id": "bob", "key_id": "laptop", "weight": 3},
    {"key": ROOT, "account_id": "root", "admin": True},
]
REQUIRED = {"require_auth": True, "keys": KEYS}
MODELS = {"org/m": "loaded", "org/other": "loaded", "org/small": "loaded"}
ALIASES = {"aliases": {"tiny": "org/small", "big": "org/other"}}
ASKING = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank"]
DIALECTS = ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat"]
LOOKING = ["/v1/models", "/v1/models/org/m", "/version", "/status", "/jobs/1"]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def told(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def every_way_in(client: Client, headers: dict[str, str]) -> list[httpx.Response]:
    body = {"model": "org/m", "messages": []}
    answers = [await client.post(path, json=body, headers=headers) for path in ASKING]
    answers += [await client.get(path, headers=headers) for path in LOOKING]
    answers += [
        await client.post(f"/models/{what}", json={"model_id": "org/m"}, headers=headers) for what in ("load", "unload")
    ]
    return answers


def test_without_a_key_only_the_public_paths_answer():
    """With require_auth a missing or unknown key is 401 everywhere, before anything else is looked at."""

    async def scenario():
        async with FakeNeuron("beast", MODELS) as beast, gateway([beast], ALIASES, entitlements=REQUIRED) as client:
            for headers in ({}, bearer("placeholder"), {"x-api-key": "placeholder"}):
                for response in await every_way_in(client, headers):
                    assert told(response) == (401, "invalid_api_key"), response.url
                    assert response.headers["www-authenticate"] == "Bearer"
            for path in ("/", "/health"):
                assert (await client.get(path)).status_code == 200
                assert (await client.head(path)).status_code == 200
            assert (await client.get(client.metrics_url)).status_code == 200
            assert (beast.sent, beast.loads, beast.unloads) == ([], [], [])

    asyncio.run(scenario())


@pytest.mark.parametrize("headers", [bearer(BOB), {"x-api-key": BOB}, bearer(BOB) | {"x-api-key": BOB}], ids=len)
def test_a_known_key_is_let_in(headers):
    """In either header or in both; by hand it may not change the fleet."""

    async def scenario():
        async with FakeNeuron("beast", MODELS) as beast, gateway([beast], entitlements=REQUIRED) as client:
            *used, load, unload = await every_way_in(client, headers)
            assert [response.status_code for response in used] == [200] * (len(used) - 1) + [404]
            assert told(load) == told(unload) == (403, "permission_denied")
            assert (await client.post("/models/load", json={"model_id": "org/m"}, headers=bearer(ROOT))).is_success

    asyncio.run(scenario())


def test_without_require_auth_placeholders_are_anonymous():
    """The key that clients send because they must send one is ignored, and a known one is known all the same."""

    async def scenario():
        open_to_all = {"keys": KEYS}
        async with FakeNeuron("beast", MODELS) as beast, gateway([beast], entitlements=open_to_all) as client:
            for headers in ({}, bearer("sk-placeholder"), bearer(ALICE)):
                client.headers = httpx.Headers(headers)
                assert (await client.chat()).status_code == 200
            accounts = [sent.headers.get("x-helexa-account-id") for sent in beast.sent]
            assert accounts == [None, None, "alice"]

    asyncio.run(scenario())


def test_only_the_gateway_says_who_asks():
    """What a client says of itself is dropped; neurons hear account, key and weight, and never the key itself."""

    async def scenario():
        spoofed = {"x-helexa-account-id": "root", "X-Helexa-Key-Id": "root", "x-cortex-weight": "1000"}
        async with FakeNeuron("beast", MODELS) as beast, gateway([beast], entitlements={"keys": KEYS}) as client:
            for headers in (spoofed, spoofed | {"x-api-key": BOB}):
                client.headers = httpx.Headers(headers)
                await client.chat()
            anonymous, bob = (sent.headers for sent in beast.sent)
            assert not any(name in anonymous for name in ("x-helexa-account-id", "x-helexa-key-id", "x-cortex-weight"))
            assert (bob["x-helexa-account-id"], bob["x-helexa-key-id"], bob["x-cortex-weight"]) == (
                "bob",
                "laptop",
                "3",
            )
            assert BOB not in str(bob)

    asyncio.run(scenario())


def test_a_key_sees_and_uses_its_models_only():
    """403 for others, whether they exist or not; an alias is allowed by its own name or its model's."""

    async def scenario():
        async with FakeNeuron("beast", MODELS) as beast, gateway([beast], ALIASES, entitlements=REQUIRED) as client:
            client.headers = httpx.Headers(bearer(ALICE))
            listed = [entry["id"] for entry in (await client.get("/v1/models")).json()["data"]]
            assert listed == ["org/m", "tiny"]
            for model, status in (("org/m", 200), ("tiny", 200), ("org/small", 403), ("big", 403), ("no/such", 403)):
                response = await client.chat(model)
                assert response.status_code == status, model
                if status == 403:
                    assert response.json()["error"]["code"] == "permission_denied"
                    assert "retry-after" not in response.headers
                assert (await client.get(f"/v1/models/{model}")).status_code == (200 if status == 200 else 404)
            assert len(beast.sent) == 2
            client.headers = httpx.Headers(bearer(BOB))
            assert told(await client.chat("no/such")) == (404, "model_not_found")

    asyncio.run(scenario())


def test_the_alias_for_everything_is_no_way_around_a_keys_models():
    """A name of the client's own making is allowed nothing by how it is spelt; who may use the target, or "*", may use any."""
    keys = [
        {"key": ALICE, "account_id": "alice", "models": ["tiny*"]},
        {"key": BOB, "account_id": "bob", "models": ["org/other"]},
        {"key": ROOT, "account_id": "root"},
    ]

    async def scenario():
        catalogue = {"aliases": {"tiny": "org/small", "*": ["org/other", "org/m"]}}
        async with (
            FakeNeuron("beast", MODELS) as beast,
            gateway([beast], catalogue, entitlements={"require_auth": True, "keys": keys}) as client,
        ):
            for key, status in ((ALICE, 403), (BOB, 200), (ROOT, 200)):
                client.headers = httpx.Headers(bearer(key))
                assert (await client.chat("tiny-of-no-one")).status_code == status
            assert {sent.json["model"] for sent in beast.sent} == {"org/other"}

    asyncio.run(scenario())


def in_its_dialect(response: httpx.Response, path: str) -> tuple[int, str]:
    """Status and what a client of this dialect acts on; the body has the dialect's own shape."""
    body = response.json()
    if path == "/api/chat":  # Ollama's clients know a status and a text
        assert body.keys() == {"error"}
        assert isinstance(body["error"], str)
        return response.status_code, ""
    if path != "/v1/messages":
        assert body["error"].keys() >= {"message", "type", "code", "param"}
        return response.status_code, body["error"]["code"]
    assert (body["type"], body["error"].keys()) == ("error", {"type", "message"})
    assert body["request_id"] == response.headers["request-id"]
    return response.status_code, body["error"]["type"]


@pytest.mark.parametrize("path", DIALECTS)
@pytest.mark.parametrize("stream", [False, True])
def test_every_refusal_is_told_in_the_clients_dialect(path: str, stream: bool, tmp_path: Path):  # noqa: FBT001  a parameter
    """401, 403 and both kinds of 429, before any stream has begun; Retry-After where waiting helps."""
    rows: list[tuple[dict[str, Any], str, tuple[int, str], tuple[int, str], bool]] = [
        ({}, "sk-unknown", (401, "invalid_api_key"), (401, "authentication_error"), False),
        ({"models": ["org/other"]}, "k0", (403, "permission_denied"), (403, "permission_error"), False),
        ({"hard_cap": 5}, "k0", (429, "insufficient_quota"), (429, "rate_limit_error"), False),
        (
            {"hard_cap": 20, "window": {"kind": "rolling", "seconds": 900}},
            "k0",
            (429, "rate_limit_exceeded"),
            (429, "rate_limit_error"),
            True,
        ),
        ({"requests_per_minute": 1}, "k0", (429, "rate_limit_exceeded"), (429, "rate_limit_error"), True),
    ]
    others: dict[str, dict[str, Any]] = {
        "/v1/responses": {"input": "hi", "max_output_tokens": 6},
        "/api/chat": {"messages": [{"role": "user", "content": "hi"}], "options": {"num_predict": 6}},
    }
    asked = others.get(path, {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 6})

    async def scenario():
        for number, (key, shown, openai, anthropic, waits) in enumerate(rows):
            keys: dict[str, Any] = {"require_auth": True, "keys": [{"key": "k0", "account_id": "a0", **key}]}
            keys["database"] = str(tmp_path / f"{number}.sqlite")
            async with FakeNeuron("beast", MODELS) as beast, gateway([beast], entitlements=keys) as client:
                client.headers = httpx.Headers({"x-api-key": shown})
                body = {"model": "org/m", "stream": stream, **asked}
                if waits:
                    assert (await client.post(path, json=body)).status_code == 200
                before = len(beast.sent)
                response = await client.post(path, json=body)
                wanted = {"/v1/messages": anthropic, "/api/chat": (openai[0], "")}.get(path, openai)
                assert in_its_dialect(response, path) == wanted, response.text
                assert ("retry-after" in response.headers) is waits
                assert len(beast.sent) == before

    asyncio.run(scenario())


def test_spending_is_counted_by_account_and_key():
    """Also of a key without limits, in every dialect; nobody's requests are nobody's."""

    async def scenario():
        async with FakeNeuron("beast", MODELS) as beast, gateway([beast], entitlements={"keys": KEYS}) as client:
            for headers in ({}, bearer(BOB), bearer(BOB)):
                client.headers = httpx.Headers(headers)
                assert (await client.chat()).status_code == 200
            labels = '{account="bob",key="laptop"}'
            assert await client.metric(f"cortex_spend_prompt_tokens_total{labels}") == 20
            assert await client.metric(f"cortex_spend_completion_tokens_total{labels}") == 10
            assert await client.metric(f"cortex_spend_tokens_total{labels}") == 30
            asked = {"model": "org/m", "max_tokens": 6, "messages": [{"role": "user", "content": "hi"}]}
            for path, body in (("/v1/messages", asked), ("/v1/responses", {"model": "org/m", "input": "hi"})):
                assert (await client.post(path, json=body)).status_code == 200
            assert await client.metric(f"cortex_spend_tokens_total{labels}") == 60
            text = (await client.get(client.metrics_url)).text
            assert text.count("cortex_spend_tokens_total{") == 1

    asyncio.run(scenario())


def test_keys_change_while_the_gateway_runs():
    """A new configuration holds from the next request on."""

    async def scenario():
        async with FakeNeuron("beast", MODELS) as beast, gateway([beast], entitlements=REQUIRED) as client:
            client.headers = httpx.Headers(bearer(BOB))
            assert (await client.chat()).status_code == 200
            live = client.handle.reconfiguration._live
            without = live.config.entitlements.model_copy(update={"keys": live.config.entitlements.keys[:1]})
            config = live.config.model_copy(update={"entitlements": without})
            await client.handle.reconfiguration.apply(config, Catalogue())
            assert told(await client.chat()) == (401, "invalid_api_key")

    asyncio.run(scenario())


def test_no_key_is_ever_told(caplog):
    """Neither a known nor an unknown key is in a log line, an answer, the status or a metric; the account is in the log."""
    unknown = "sk-unknown-73"

    async def scenario():
        async with FakeNeuron("beast", MODELS) as beast, gateway([beast], entitlements=REQUIRED) as client:
            texts = []
            for headers in (bearer(ALICE), {"x-api-key": BOB}, bearer(unknown), bearer(ALICE) | {"x-api-key": BOB}):
                client.headers = httpx.Headers(headers)
                texts += [(await client.chat()).text, (await client.chat("org/other")).text]
            texts += [(await client.get(path, headers=bearer(ROOT))).text for path in ("/status", "/v1/models")]
            texts.append((await client.get(client.metrics_url)).text)
            return texts

    with caplog.at_level(logging.DEBUG):
        texts = asyncio.run(scenario())
    everything = "\n".join([*texts, caplog.text, *(str(vars(record)) for record in caplog.records)])
    for secret in (ALICE, BOB, ROOT, unknown, str(KEYS[0]["sha256"])):
        assert secret not in everything
    assert any(getattr(record, "fields", {}).get("account") == "alice" for record in caplog.records)

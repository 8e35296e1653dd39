"""A model of another kind than what it was asked for."""

import asyncio
from typing import Any

import httpx
import pytest
from helpers.fake_neuron import FakeNeuron, answer
from helpers.gateways import gateway
from helpers.live import SCRIPTED, running_fleet

WRONG = b'{"error": {"message": "model \'org/m\' serves something else", "code": "wrong_modality", "type": "invalid_request_error"}}'
CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
ASKS: dict[str, tuple[dict[str, Any], str]] = {
    "/v1/embeddings": ({"input": "x"}, "org/e"),
    "/v1/rerank": ({"query": "x", "documents": ["y"]}, "org/r"),
    "/v1/completions": ({"prompt": "x"}, "org/c"),
    "/v1/chat/completions": (CHAT, "org/c"),
    "/v1/messages": (CHAT, "org/c"),
    "/v1/responses": ({"input": "x"}, "org/c"),
    "/api/chat": (CHAT | {"stream": False}, "org/c"),
    "/api/embed": ({"input": "x"}, "org/e"),
}


def neuron() -> FakeNeuron:
    """`org/m` serves nothing that it is asked for; the others have a capability each."""
    beast = FakeNeuron("beast", dict.fromkeys(["org/a-cold", "org/c", "org/e", "org/m", "org/r"], "loaded"))
    for model_id, words in (
        ("org/c", ["chat", "completions"]),
        ("org/e", ["embeddings"]),
        ("org/r", ["rerank"]),
        ("org/a-cold", ["chat", "completions", "embeddings", "rerank"]),
    ):
        beast.models[model_id]["capabilities"] = words
    beast.models["org/a-cold"]["status"] = "unloaded"
    beast.chat = answer(422, WRONG)
    return beast


@pytest.mark.parametrize("path", ASKS)
def test_the_error_names_a_model_that_fits(path):
    """In every dialect, one that is loaded before one that is not."""
    body, fitting = ASKS[path]

    async def scenario():
        async with neuron() as beast, gateway([beast]) as client:
            refused = await client.post(path, json={"model": "org/m", **body}, headers={"anthropic-version": "1"})
            assert refused.status_code == 422
            assert f"serves something else: '{fitting}' does" in refused.text

    asyncio.run(scenario())


def test_it_names_none_that_the_key_may_not_use():
    """And none where there is none; the neuron's own words stay."""
    keys = [
        {"key": "k0", "account_id": "a0", "models": ["org/m", "org/a*"]},
        {"key": "k1", "account_id": "a1", "models": ["org/m"]},
    ]

    async def scenario():
        async with neuron() as beast, gateway([beast], entitlements={"keys": keys}) as client:
            for key, says in (("k0", "something else: 'org/a-cold' does"), ("k1", "something else")):
                client.headers = httpx.Headers({"x-api-key": key})
                error = (await client.post("/v1/embeddings", json={"model": "org/m", "input": "x"})).json()["error"]
                assert (error["code"], error["message"].endswith(says)) == ("wrong_modality", True)
                assert error.get("suggestion") == ("use 'org/a-cold'" if key == "k0" else None)

    asyncio.run(scenario())


@pytest.mark.parametrize("wait", ["block", "fail-fast"])
def test_a_model_that_would_refuse_is_not_loaded_and_nobody_leaves_for_it(wait):
    """Its neuron tells what its file is for: the refusal comes before the load, streamed or not."""

    async def scenario():
        beast = FakeNeuron("beast", {"org/e": "unloaded", "org/c": "loaded"})
        beast.health["memory_free_mb"] = 100
        beast.models["org/e"] |= {"capabilities": ["embeddings"], "vram_estimate_mb": 500}
        beast.models["org/c"] |= {"capabilities": ["chat", "completions"], "vram_used_mb": 900}
        async with beast, gateway([beast]) as client:
            client.headers["x-cortex-wait"] = wait
            for stream in (True, False):
                refused = await client.chat("org/e", stream=stream)
                assert (refused.status_code, refused.json()["error"]["code"]) == (422, "wrong_modality")
                assert refused.json()["error"]["suggestion"] == "use 'org/c'"
            assert (beast.loads, beast.unloads) == ([], [])
            client.headers["x-cortex-wait"] = "block"
            served = await client.post("/v1/embeddings", json={"model": "org/e", "input": "x"})
            assert (served.status_code, len(beast.loads), len(beast.unloads)) == (200, 1, 1)

    asyncio.run(scenario())


@pytest.mark.model
def test_a_real_neuron_tells_what_its_files_are_for(models_dir):
    """By the header alone, and as it says once it is loaded."""

    async def scenario():
        async with running_fleet(models_dir) as fleet:

            async def entry():
                return next(each for each in (await fleet.get("/v1/models"))["data"] if each["id"] == SCRIPTED)

            cold = await entry()
            refused = await fleet.http.post("/v1/embeddings", json={"model": SCRIPTED, "input": "x"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "wrong_modality")
            assert not (await entry())["loaded"]
            assert (await fleet.chat(SCRIPTED, "Hello")).status_code == 200
            warm = await entry()
            assert (cold["capabilities"], cold["loaded"], warm["loaded"]) == (warm["capabilities"], False, True)

    asyncio.run(scenario())

"""Budgets over HTTP: refused before dispatch, settled afterwards, never passed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from benchmarks.ports import free_port
from helpers.fake_neuron import FakeNeuron, answer, hang, hold_at
from helpers.gateways import Client, eventually, gateway
from helpers.waiting import until
from sanic import Request
from sanic.response import HTTPResponse

from cortex import web
from cortex.gateway.keys.ledger.books import Books
from cortex.gateway.keys.ledger.store import Store
from cortex.gateway.keys.policy import Account
from cortex.tasks import Tasks

MODELS = {"org/m": "loaded"}
Look = Callable[[], Account]


def capped(database: str, *keys: dict[str, Any]) -> dict[str, Any]:
    """Keys "k0", "k1", … of accounts "a0", "a1", …"""
    named = [{"key": f"k{number}", "account_id": f"a{number}", **key} for number, key in enumerate(keys)]
    return {"database": database, "keys": named}


@contextlib.asynccontextmanager
async def keyed(neurons: Iterable[FakeNeuron], database: str, *keys: dict[str, Any], **settings: Any):
    """A gateway with these keys, asked with the first."""
    async with gateway(neurons, entitlements=capped(database, *keys), **settings) as client:
        client.headers["x-api-key"] = "k0"
        yield client


@pytest.fixture
def account(connect: Callable[[], Store]) -> Look:
    """The first key's account, as the ledger has it now."""

    def look() -> Account:
        with closing(connect()) as store:
            return Books(store, "test", ttl_s=60).account(("a0", "a0"))

    return look


def refusal(response: httpx.Response) -> tuple[int, str, bool]:
    """Status, code, and whether it says when to come again."""
    return response.status_code, response.json()["error"]["code"], "retry-after" in response.headers


def test_a_balance_that_is_used_up_is_refused_before_dispatch(database: str, account: Look):
    """What was really used is charged: 15 of the reserved tokens; then the next one does not fit, and no neuron hears of it."""

    async def scenario():
        async with FakeNeuron("beast", MODELS) as beast, keyed([beast], database, {"hard_cap": 110}) as client:
            assert (await client.chat(max_tokens=100)).status_code == 200
            await until(lambda: account().used == 15)
            refused = await client.chat(max_tokens=100)
            assert refusal(refused) == (429, "insufficient_quota", False)
            assert refused.json()["error"]["type"] == "insufficient_quota"
            assert "95 are left" in refused.json()["error"]["message"]
            assert (await client.chat(max_tokens=90)).status_code == 200
            assert len(beast.sent) == 2
            await until(lambda: account().used == 30)
            assert account().open == account().held == 0

    asyncio.run(scenario())


def test_a_window_that_is_used_up_says_when_to_come_again(database: str):
    """429 with the seconds to the next window; a request that no window holds is told so instead."""

    async def scenario():
        key = {"hard_cap": 110, "window": {"kind": "rolling", "seconds": 3600}}
        async with FakeNeuron("beast", MODELS) as beast, keyed([beast], database, key) as client:
            assert (await client.chat(max_tokens=100)).status_code == 200
            refused = await client.chat(max_tokens=100)
            assert refusal(refused) == (429, "rate_limit_exceeded", True)
            assert refusal(await client.chat(max_tokens=111)) == (429, "insufficient_quota", False)
            assert len(beast.sent) == 1

    asyncio.run(scenario())


def test_requests_a_minute_and_requests_at_once_are_limited(database: str):
    """Each key has its own counts."""

    async def scenario():
        tasks = Tasks("test")
        keys: tuple[dict[str, Any], ...] = {"requests_per_minute": 2}, {"max_in_flight": 1}, {}
        async with FakeNeuron("beast", MODELS) as beast, keyed([beast], database, *keys) as client:
            assert [(await client.chat()).status_code for _ in range(3)] == [200, 200, 429]
            refused = await client.chat()
            assert refusal(refused) == (429, "rate_limit_exceeded", True)
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            beast.step = hold_at(2, release := asyncio.Event())
            client.headers["x-api-key"] = "k1"
            running = tasks.start("stream", client.stream_text())
            await until(lambda: len(beast.sent) == 3)
            assert refusal(await client.chat()) == (429, "rate_limit_exceeded", True)
            client.headers["x-api-key"] = "k2"
            assert (await client.chat()).status_code == 200
            release.set()
            assert "[DONE]" in await running
            client.headers["x-api-key"] = "k1"

            async def free_again():
                return (await client.chat()).status_code == 200

            await eventually(free_again)

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens", "/v1/chat/completions/input_tokens", "/api/generate"])
def test_a_question_without_an_answer_is_a_request_and_takes_no_tokens(path: str, database: str, account: Look):
    """Counting, and loading by an empty prompt: refused beyond the requests of a minute, not by a cap that is used up."""
    body = {"model": "org/m"} | ({} if path == "/api/generate" else {"messages": [{"role": "user", "content": "hi"}]})

    async def scenario():
        keys: tuple[dict[str, Any], ...] = {"requests_per_minute": 2, "hard_cap": 0}, {"models": ["org/other"]}
        async with FakeNeuron("beast", MODELS) as beast, keyed([beast], database, *keys) as client:
            assert [(await client.post(path, json=body)).status_code for _ in range(3)] == [200, 200, 429]
            counted = len(beast.counted)
            assert counted == (0 if path == "/api/generate" else 2)
            await until(lambda: account().open == 0)
            assert (account().requests, account().used, account().held) == (2, 0, 0)
            client.headers["x-api-key"] = "k1"
            assert (await client.post(path, json=body)).status_code == 403
            del client.headers["x-api-key"]
            assert (await client.post(path, json=body)).status_code == 200

    asyncio.run(scenario())


def test_a_request_without_a_bound_gets_the_one_that_was_reserved(database: str):
    """Only for a key with a cap; everybody else's bytes pass as they came."""

    async def scenario():
        catalogue = {"models": [{"id": "org/m", "limit": {"context": 4096, "output": 77}}]}
        entitlements = capped(database, {"hard_cap": 1000}, {"requests_per_minute": 9})
        async with (
            FakeNeuron("beast", MODELS) as beast,
            gateway([beast], catalogue, entitlements=entitlements) as client,
        ):
            for key in ("k0", "k1", "nobody's"):
                client.headers["x-api-key"] = key
                assert (await client.chat()).status_code == 200
            assert [sent.json.get("max_tokens") for sent in beast.sent] == [77, None, None]

    asyncio.run(scenario())


def test_what_failed_is_free(database: str, account: Look):
    """A neuron's refusal, a failure, a model that nobody has: the reservation is released whole."""

    async def scenario():
        async with FakeNeuron("beast", MODELS) as beast, keyed([beast], database, {"hard_cap": 50}) as client:
            for status in (400, 500, 503):
                beast.chat = answer(status, b'{"error":{"message":"no","code":null}}')
                for stream in (False, True):
                    assert (await client.chat(max_tokens=40, stream=stream)).status_code == status
            assert (await client.chat("no/such", max_tokens=40)).status_code == 404
            beast.chat = None
            await until(lambda: account().open == 0)
            assert (account().used, account().released) == (0, account().reserved)
            assert (await client.chat(max_tokens=40)).status_code == 200

    asyncio.run(scenario())


def test_a_client_that_leaves_pays_for_what_it_was_sent(database: str, account: Look):
    """In mid-stream: the prompt as estimated and the tokens so far; before the first byte: nothing."""

    async def scenario():
        tasks = Tasks("test")
        async with FakeNeuron("beast", MODELS) as beast, keyed([beast], database, {"hard_cap": 900}) as client:
            beast.step = hold_at(3)
            body = {
                "model": "org/m",
                "stream": True,
                "max_tokens": 500,
                "messages": [{"role": "user", "content": "x" * 400}],
            }
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                text = response.aiter_text()
                received = ""
                while '"is"' not in received:
                    received += await anext(text)
            await until(lambda: account().open == 0)
            assert 110 <= account().used <= 120  # two tokens, and a prompt of 400 bytes
            paid = account().used
            beast.chat = hang
            waiting = tasks.start("chat", client.chat(max_tokens=500))
            await until(lambda: account().open == 1)
            await until(lambda: len(beast.sent) == 2)
            waiting.cancel()
            await until(lambda: account().open == 0)
            assert account().used == paid

    asyncio.run(scenario())


def test_a_batch_of_embeddings_is_charged_though_its_usage_stands_first(database: str, account: Look):
    """Usage before more data than is kept of an answer is found all the same."""

    async def scenario():
        vectors = [{"object": "embedding", "index": number, "embedding": [0.25] * 768} for number in range(64)]
        body = orjson.dumps({"object": "list", "usage": {"prompt_tokens": 33, "total_tokens": 33}, "data": vectors})
        async with FakeNeuron("beast", MODELS) as beast, keyed([beast], database, {"hard_cap": 900}) as client:
            beast.chat = answer(200, body)
            assert (await client.post("/v1/embeddings", json={"model": "org/m", "input": "x"})).content == body
            await until(lambda: account().used == 33)

    asyncio.run(scenario())


class Spender:
    """A neuron's behaviour: takes a random share of what each request allows, and keeps count."""

    def __init__(self) -> None:
        self.chance = random.Random(7)
        self.took = 0

    async def __call__(self, request: Request) -> HTTPResponse:
        allowed = orjson.loads(request.body)["max_tokens"]
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)
        completion = self.chance.randint(1, allowed)
        self.took += completion
        return web.json({"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": completion}})


def test_64_clients_never_pass_a_cap(database: str, account: Look):
    """Two gateways with one ledger, 64 clients that ask until they are refused for good: not one token too many."""

    async def spend(client: Client, chance: random.Random) -> None:
        while True:
            response = await client.post(
                "/v1/completions",
                json={"model": "org/m", "max_tokens": chance.randint(1, 60)},
                headers={"x-api-key": "k0"},
            )
            if response.status_code != 200:
                assert response.status_code == 429
                if response.json()["error"]["code"] == "insufficient_quota":
                    return

    async def scenario():
        spender = Spender()
        async with contextlib.AsyncExitStack() as stack:
            beast = await stack.enter_async_context(FakeNeuron("beast", MODELS))
            beast.chat = spender
            gateways = [await stack.enter_async_context(keyed([beast], database, {"hard_cap": 2000})) for _ in range(2)]
            await asyncio.gather(*(spend(gateways[n % 2], random.Random(n)) for n in range(64)))
            await until(lambda: account().open == 0)
            spent = sum(
                [await client.metric('cortex_spend_tokens_total{account="a0",key="a0"}') or 0 for client in gateways]
            )
        final = account()
        assert final.used == final.settled == spender.took == spent
        assert 1900 < final.used <= 2000
        assert final.reserved == final.settled + final.released

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_without_its_ledger_a_gateway_refuses_keys_with_limits_only(kind: str, tmp_path: Path, caplog):
    """503 with Retry-After for them, never 401; whoever needs no count is served. No password is in the log."""
    (tmp_path / "folder").mkdir()
    database = {
        "sqlite": str(tmp_path / "folder"),
        "postgresql": f"postgresql://u:pg-secret@127.0.0.1:{free_port()}/d",
    }[kind]

    async def scenario():
        async with FakeNeuron("beast", MODELS) as beast, keyed([beast], database, {"hard_cap": 9}, {}) as client:
            assert refusal(await client.chat()) == (503, "service_unavailable", True)
            for key in ("k1", "nobody's"):
                client.headers["x-api-key"] = key
                assert (await client.chat()).status_code == 200

    asyncio.run(scenario())
    assert len(re.findall("the ledger .* cannot be used", caplog.text)) == 1
    assert "pg-secret" not in caplog.text


def test_a_ledger_that_comes_back_is_used_again(tmp_path: Path):
    """Nothing has to be restarted."""

    async def scenario():
        place = tmp_path / "ledger.sqlite"
        place.mkdir()
        async with FakeNeuron("beast", MODELS) as beast, keyed([beast], str(place), {"hard_cap": 900}) as client:
            assert (await client.chat(max_tokens=9)).status_code == 503
            place.rmdir()

            async def served():
                return (await client.chat(max_tokens=9)).status_code == 200

            await eventually(served)

    asyncio.run(scenario())

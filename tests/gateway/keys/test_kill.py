"""A gateway that is killed loses nothing but what it had open."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import orjson
import pytest
from benchmarks.ports import free_port
from helpers.fake_neuron import CHAT_ANSWER, FakeNeuron
from helpers.gateways import eventually
from helpers.waiting import until
from sanic import Request
from sanic.response import HTTPResponse

from cortex import web
from cortex.gateway.keys.ledger.books import Books
from cortex.gateway.keys.ledger.store import Store
from cortex.gateway.keys.policy import Account
from cortex.tasks import Tasks

CONFIG = """
[gateway]
listen = "127.0.0.1:{port}"
metrics_listen = "127.0.0.1:0"

[[neurons]]
name = "beast"
endpoint = "{endpoint}"

[entitlements]
database = "{database}"
reservation_ttl_secs = 1.5

[[entitlements.keys]]
key = "k0"
account_id = "a0"
hard_cap = 5000
"""


class Running:
    """A gateway's process."""

    def __init__(self, file: Path, port: int) -> None:
        command = [sys.executable, "-m", "cortex", "--role", "gateway", "--config", str(file)]
        self.process = subprocess.Popen(command, env={**os.environ, "CORTEX_LOG": "warning"})
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"x-api-key": "k0"}, timeout=30, trust_env=False
        )

    async def ready(self) -> None:
        await eventually(self._answers)

    async def _answers(self) -> bool:
        try:
            return bool((await self.http.get("/health")).json()["nodes"]["healthy"])
        except httpx.TransportError:
            return False

    async def chat(self, max_tokens: int) -> httpx.Response:
        return await self.http.post("/v1/completions", json={"model": "org/m", "max_tokens": max_tokens})

    async def end(self, number: int) -> None:
        self.process.send_signal(number)
        await asyncio.to_thread(self.process.wait, 30)
        await self.http.aclose()


async def hang_when_long(request: Request) -> HTTPResponse:
    if orjson.loads(request.body)["max_tokens"] > 100:
        await asyncio.Event().wait()
    return web.json_bytes(CHAT_ANSWER)


@pytest.mark.slow
def test_a_killed_gateway_leaves_its_open_requests_and_no_more(
    database: str, connect: Callable[[], Store], tmp_path: Path
) -> None:
    """`kill -9` among 24 requests: what was settled stays, what was open is settled in full by the next gateway, the sums balance."""

    def account() -> Account:
        with closing(connect()) as store:
            return Books(store, "test", ttl_s=60).account(("a0", "a0"))

    async def scenario() -> None:
        tasks, port, file = Tasks("test"), free_port(), tmp_path / "cortex.toml"
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast:
            beast.chat = hang_when_long
            file.write_text(CONFIG.format(port=port, endpoint=beast.endpoint, database=database))
            first = Running(file, port)
            await first.ready()
            for _ in range(8):
                tasks.start("long", first.chat(200))
            done = await asyncio.gather(*(first.chat(50) for _ in range(16)))
            assert [response.status_code for response in done] == [200] * 16
            await until(lambda: (account().open, len(beast.sent)) == (8, 24))
            await first.end(signal.SIGKILL)
            before = account()
            assert (before.open, before.held, before.used) == (8, 1600, 16 * 15)
            second = Running(file, port)
            try:
                await second.ready()
                await until(lambda: account().open == 0, within_s=20)
                assert (await second.chat(50)).status_code == 200
                await until(lambda: account().used == 17 * 15 + 1600)
            finally:
                await second.end(signal.SIGTERM)
            await tasks.aclose()
        after = account()
        assert after.reserved == after.settled + after.released
        assert (after.settled, after.held) == (17 * 15 + 1600, 0)

    asyncio.run(scenario())

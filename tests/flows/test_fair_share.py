"""A busy model's places go round among the keys that wait: gateway, neuron and engine, all real."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.live import ENDLESS_MODEL, SCRIPTED, Live, endless, live, running_neuron

from cortex.config.catalogue import Catalogue
from cortex.config.gateway import GatewayConfig
from cortex.gateway import app
from cortex.tasks import Tasks

KEYS = [{"key": key, "account_id": key} for key in ("alice", "bob")]


def config(neuron: Live) -> GatewayConfig:
    return GatewayConfig.model_validate(
        {
            "gateway": {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", "poll_interval_secs": 0.2},
            "neurons": [{"name": "local", "endpoint": neuron.url}],
            "entitlements": {"keys": KEYS},
        }
    )


async def waiting(neuron: Live, count: int) -> None:
    """Until so many requests wait at the neuron."""
    async with asyncio.timeout(30):
        while True:
            (model,) = (await neuron.get("/health"))["models"]
            if (model["in_flight"], model["queue_depth"]) == (1, count):
                return
            await asyncio.sleep(0.01)


@pytest.mark.model
def test_keys_take_turns_at_a_busy_model(models_dir: Path) -> None:
    """While a stream holds the only place, alice sends three requests, then bob one, and before them somebody without a key: alice, bob, alice, alice, nobody."""
    order: list[str] = []

    async def ask(gateway: Live, who: str) -> None:
        headers = {"x-api-key": who}
        body: dict[str, Any] = {"model": SCRIPTED, "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}
        answer = await gateway.http.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        order.append(who)

    async def scenario() -> None:
        tasks = Tasks("test")
        async with running_neuron(models_dir, default_models=[ENDLESS_MODEL], admission={"max_in_flight": 1}) as neuron:
            while (await neuron.get("/health"))["activation"]["state"] != "ready":
                await asyncio.sleep(0.05)
            async with app.running(config(neuron), Catalogue()) as handle, live(f"http://{handle.listen}") as gateway:
                asked = []
                async with held(gateway):
                    await waiting(neuron, 0)
                    for number, who in enumerate(("nobody", "alice", "alice", "alice", "bob"), start=1):
                        asked.append(tasks.start(who, ask(gateway, who)))
                        await waiting(neuron, number)
                await asyncio.gather(*asked)

    asyncio.run(scenario())
    assert order == ["alice", "bob", "alice", "alice", "nobody"]


def held(gateway: Live) -> Any:
    """A stream that goes on until it is left."""
    return gateway.http.stream("POST", "/v1/chat/completions", json=endless(), timeout=httpx.Timeout(60))

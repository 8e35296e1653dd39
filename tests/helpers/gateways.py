"""A real gateway in front of fakes, and waiting for facts instead of time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

import httpx
from helpers.fake_neuron import FakeNeuron

from cortex.config.catalogue import Catalogue
from cortex.config.gateway import GatewayConfig
from cortex.gateway import app

DEADLINE_S = 30.0


class Client(httpx.AsyncClient):
    """Talks to a gateway. `metrics` is its other listener, `handle` the gateway itself."""

    metrics_url = ""
    handle: app.GatewayHandle

    async def chat(self, model: str = "org/m", **fields: Any) -> httpx.Response:
        return await self.post("/v1/chat/completions", json={"model": model, "messages": []} | fields)

    async def stream_text(self, model: str = "org/m", **fields: Any) -> str:
        """The whole text of a streamed chat."""
        return (await self.chat(model, stream=True, **fields)).text

    async def read_into(self, got: bytearray, model: str = "org/m", **fields: Any) -> None:
        """A streamed chat, piece by piece, as a client sees it."""
        body = {"model": model, "messages": [], "stream": True} | fields
        async with self.stream("POST", "/v1/chat/completions", json=body) as response:
            async for piece in response.aiter_bytes():
                got.extend(piece)

    async def metric(self, line_start: str) -> float | None:
        """The value of the first sample whose line begins so."""
        text = (await self.get(self.metrics_url)).text
        return next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(line_start)), None)

    async def node(self, name: str) -> dict[str, Any]:
        nodes = (await self.get("/status")).json()["nodes"]
        return next(node for node in nodes if node["name"] == name)


@contextlib.asynccontextmanager
async def gateway(
    neurons: Iterable[FakeNeuron | dict[str, str]],
    catalogue: dict[str, Any] | None = None,
    *,
    entitlements: dict[str, Any] | None = None,
    eviction: dict[str, Any] | None = None,
    responses: dict[str, Any] | None = None,
    images: dict[str, Any] | None = None,
    sync: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Client]:
    """A running gateway and a client of it; `settings` are those of its own table."""
    config = GatewayConfig.model_validate(
        {
            "gateway": {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", "drain_secs": 0, **settings},
            "entitlements": entitlements or {},
            "eviction": eviction or {},
            "sync": sync or {},
            "responses": responses or {},
            "images": images or {},
            "neurons": [neuron.ref if isinstance(neuron, FakeNeuron) else neuron for neuron in neurons],
        }
    )
    async with (
        app.running(config, Catalogue.model_validate(catalogue or {})) as handle,
        Client(base_url=f"http://{handle.listen}", timeout=DEADLINE_S, trust_env=False) as client,
    ):
        client.handle = handle
        client.metrics_url = f"http://{handle.metrics_listen}/metrics"
        yield client


async def eventually(fact: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + DEADLINE_S
    while not (value := await fact()):
        if time.monotonic() > end:
            raise AssertionError(f"still {value!r} after {DEADLINE_S:g} s")
        await asyncio.sleep(0.01)
    return value

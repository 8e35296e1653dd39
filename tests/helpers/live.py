"""Real neurons and fleets in this process, on real sockets, for flow tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cortex.config.catalogue import Catalogue
from cortex.config.gateway import GatewayConfig
from cortex.config.loader import validate
from cortex.config.neuron import NeuronConfig
from cortex.gateway import app as gateway_app
from cortex.neuron import app as neuron_app

SCRIPTED = "scripted"
DEMO = "SmolLM2-135M-Instruct.Q4_1"
# One thread: engine threads spin, and tests run side by side on few cores.
SCRIPTED_MODEL: dict[str, Any] = {"model_id": SCRIPTED, "threads": 1, "context": 8192}
# With room for an answer that takes half a minute, and more.
ENDLESS_MODEL: dict[str, Any] = {**SCRIPTED_MODEL, "context": 131_072}
DEMO_MODEL: dict[str, Any] = {"model_id": DEMO, "threads": 1, "context": 2048, "chat_template": "chatml"}


def endless(*, stream: bool = True) -> dict[str, Any]:
    """A chat with ENDLESS_MODEL that goes on until it is left."""
    text = {"role": "user", "content": "[[loop]]"}
    return {"model": SCRIPTED, "messages": [text], "max_tokens": 100_000, "stream": stream}


def neuron_config(models_dir: Path, **more: Any) -> NeuronConfig:
    own = {"port": 0, "models_dir": str(models_dir), "state_dir": str(models_dir / "state"), "hub": {"enabled": False}}
    return validate(NeuronConfig, own | more, source="test")


@dataclass
class Live:
    """Something that listens, and a client for it."""

    url: str
    http: httpx.AsyncClient

    async def get(self, path: str, **more: Any) -> Any:
        answer = await self.http.get(path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def load(self, model: dict[str, Any]) -> httpx.Response:
        return await self.http.post("/models/load", json={"harness": "auto", **model})

    async def chat(self, model: str, text: str, **more: Any) -> httpx.Response:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 32,
            "temperature": 0,
            **more,
        }
        return await self.http.post("/v1/chat/completions", json=body)


@contextlib.asynccontextmanager
async def live(url: str) -> AsyncIterator[Live]:
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        yield Live(url, http)


@contextlib.asynccontextmanager
async def running_neuron(models_dir: Path, **more: Any) -> AsyncIterator[Live]:
    async with (
        neuron_app.running(neuron_config(models_dir, **more)) as handle,
        live(f"http://{handle.listen}") as neuron,
    ):
        yield neuron


@contextlib.asynccontextmanager
async def running_fleet(
    models_dir: Path,
    *,
    catalogue: dict[str, Any] | None = None,
    gateway: dict[str, Any] | None = None,
    responses: dict[str, Any] | None = None,
    images: dict[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[Live]:
    """A gateway in front of one neuron, both real; yields the gateway once the default models are tried."""
    async with running_neuron(models_dir, **more) as neuron:
        while (await neuron.get("/health"))["activation"]["state"] != "ready":
            await asyncio.sleep(0.05)
        settings = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", **(gateway or {})}
        neurons = [{"name": "local", "endpoint": neuron.url}]
        config = {"gateway": settings, "neurons": neurons, "responses": responses or {}, "images": images or {}}
        parsed = validate(GatewayConfig, config, source="test")
        async with (
            gateway_app.running(parsed, validate(Catalogue, catalogue or {}, source="test")) as handle,
            live(f"http://{handle.listen}") as fleet,
        ):
            yield fleet

"""A test against a gateway in front of one neuron that does as it is told, in few words."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from helpers.fake_neuron import FakeNeuron
from helpers.gateways import Client, gateway

Scenario = Callable[[FakeNeuron, Client], Awaitable[None]]


def at_gateway(scenario: Scenario | None = None, *, models: dict[str, str] | None = None, **settings: Any) -> Any:
    """Makes a test of `scenario(neuron, client)`; `models` and their states, `settings` as `helpers.gateways.gateway` takes them."""
    if scenario is None:
        return functools.partial(at_gateway, models=models, **settings)

    async def session() -> None:
        async with FakeNeuron("beast", models or {"org/m": "loaded"}) as beast, gateway([beast], **settings) as client:
            await scenario(beast, client)

    def test() -> None:
        asyncio.run(session())

    test.__doc__, test.__name__ = scenario.__doc__, getattr(scenario, "__name__", "scenario")
    return test


def events_of(text: str) -> list[tuple[str, Any]]:
    """(name, data) of each server-sent event; the name is its data's type."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            data = json.loads(lines["data"])
            assert data["type"] == lines["event"]
            found.append((lines["event"], data))
    return found


def whole_answer(finish: str = "stop", more: dict[str, Any] | None = None, **message: Any) -> bytes:
    """A chat completion whose message has these fields."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return orjson.dumps({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage, **(more or {})})

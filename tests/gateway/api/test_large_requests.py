"""A large request is read in a thread, and answered like any other: the answers of others do not stand still meanwhile."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest
from helpers.fake_neuron import FakeNeuron
from helpers.gateways import gateway
from sanic import Request
from sanic.response import HTTPResponse

from cortex import web
from cortex.config.listen import Listen
from cortex.gateway.api.reading import LARGE_BYTES, reading

TEXT = "word " * (LARGE_BYTES // 5 + 1)
SAID = [{"role": "user", "content": TEXT}]
WRONG = [*SAID, {"role": "nobody", "content": "x"}]


@pytest.mark.parametrize(("size", "beside"), [(LARGE_BYTES, False), (LARGE_BYTES + 1, True)])
def test_what_reads_a_large_request_does_not_hold_up_the_loop(size: int, beside: bool) -> None:  # noqa: FBT001
    """A small one is not worth a thread."""

    async def handler(request: Request) -> HTTPResponse:
        return web.json(await reading(request, threading.get_ident) != threading.get_ident())

    async def scenario() -> None:
        app = web.new_app("test", max_body_bytes=2 * LARGE_BYTES)
        web.route(app, "POST", "/", handler)
        async with web.listening(app, Listen("127.0.0.1", 0)) as listen, httpx.AsyncClient(trust_env=False) as client:
            assert (await client.post(f"http://{listen}/", content=bytes(size))).json() is beside

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        ("/v1/chat/completions", {"messages": SAID}, None),
        ("/v1/messages", {"messages": SAID, "max_tokens": 8}, {"messages": WRONG, "max_tokens": 8}),
        ("/v1/messages/count_tokens", {"messages": SAID}, {"messages": WRONG}),
        ("/v1/responses", {"input": TEXT}, {"input": WRONG}),
        ("/api/chat", {"messages": SAID, "stream": False}, {"messages": WRONG}),
        ("/api/generate", {"prompt": TEXT, "stream": False}, {"prompt": TEXT, "context": [1]}),
    ],
)
def test_a_large_request_is_answered_and_refused_like_any_other(
    path: str, right: dict[str, Any], wrong: dict[str, Any] | None
) -> None:
    """In every dialect; what is wrong with it is told as it is of a small one."""

    async def scenario() -> None:
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            told = await client.post(path, json={"model": "org/m", **right})
            assert told.status_code == 200, told.text
            refused = await client.post(path, json={**(wrong or right), **({"model": "org/m"} if wrong else {})})
            assert (refused.status_code, "error" in refused.json()) == (400, True)

    asyncio.run(scenario())

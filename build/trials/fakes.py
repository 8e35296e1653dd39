"""Neurons that do what no process of ours does by being killed: reset, never answer, lie, break off, send noise."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson
from helpers.fake_neuron import FakeNeuron, hang, reset
from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from trials.verdict import sentence

WRONG = 0.25  # of the answers


class BadNeuron(FakeNeuron):
    """Right most of the time. Its chance comes from `chance`; when `well` it is always right."""

    def __init__(self, name: str, models: list[str], chance: random.Random) -> None:
        super().__init__(name, dict.fromkeys(models, "loaded"))
        self.chat = self._answer
        self.well = False
        self._chance = chance

    async def _answer(self, request: Request) -> HTTPResponse | None:
        model = orjson.loads(request.body)["model"]
        if self.well or self._chance.random() > WRONG:
            return await self._right(request, model, cut_after=None)
        return await self._wrong(request, model)

    async def _wrong(self, request: Request, model: str) -> HTTPResponse | None:
        match self._chance.choice(["reset", "hang", "busy", "absent", "noise", "cut", "cut", "slow"]):
            case "reset":
                return await reset(request)
            case "hang":
                return await hang(request)
            case "busy":
                raise errors.over_capacity("the queue is full", retry_after=1)
            case "absent":
                raise errors.model_not_found(model, "on this neuron")
            case "noise":
                transport: Any = request.transport
                transport.write(bytes(range(256)))
                transport.close()
                return await hang(request)
            case "cut":
                return await self._right(request, model, cut_after=self._chance.randrange(4))
            case _:
                await asyncio.sleep(self._chance.uniform(0, 2))
                return await self._right(request, model, cut_after=None)

    async def _right(self, request: Request, model: str, *, cut_after: int | None) -> HTTPResponse | None:
        if not orjson.loads(request.body).get("stream"):
            if cut_after is not None:
                return await reset(request)
            message = {"role": "assistant", "content": sentence(model)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json({"id": "c", "object": "chat.completion", "model": model, "choices": [choice]})
        sink = web.SanicSink(request)
        await sink.start(200, [("content-type", "text/event-stream")])
        for number, event in enumerate(_events(model)):
            if number == cut_after:
                request.transport.close()
                return await hang(request)
            await sink.send(event)
            await asyncio.sleep(0)
        await sink.finish()
        return None


def _events(model: str) -> list[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        told = {"id": "c", "object": "chat.completion.chunk", "model": model, "choices": [choice]}
        return b"data: " + orjson.dumps(told) + b"\n\n"

    first, second = sentence(model).split(model)
    said = [
        chunk({"role": "assistant"}),
        chunk({"content": first}),
        chunk({"content": model}),
        chunk({"content": second}),
    ]
    return [*said, chunk({}, "stop"), b"data: [DONE]\n\n"]

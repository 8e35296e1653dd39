"""Ollama's API for clients that speak nothing else: translated, answered by the fleet, translated back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any

from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.errors import CortexError
from cortex.gateway.api.models import ModelsApi
from cortex.gateway.api.reading import reading
from cortex.gateway.api.translated import answered, call_of
from cortex.gateway.fleet.lifecycle import Lifecycle
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.keys.charges import Charges
from cortex.gateway.live import Live
from cortex.gateway.proxy.call import Call, Names
from cortex.gateway.proxy.dispatch import Dispatcher
from cortex.gateway.proxy.sinks import Collector, TranslatingSink
from cortex.gateway.routing.eviction import Circumstances
from cortex.gateway.routing.upkeep import leaves_at
from cortex.net.headers import Headers
from cortex.net.relay import stream_headers
from cortex.wire import ollama
from cortex.wire.ollama.request import EMBEDDINGS

_NDJSON = stream_headers([("content-type", "application/x-ndjson")])


class OllamaApi:
    def __init__(
        self,
        dispatcher: Dispatcher,
        names: Names,
        charges: Charges,
        models: ModelsApi,
        lifecycle: Lifecycle,
        fleet: Fleet,
        live: Live,
    ) -> None:
        self._dispatcher = dispatcher
        self._names = names
        self._charges = charges
        self._models = models
        self._lifecycle = lifecycle
        self._fleet = fleet
        self._live = live

    # ---- models

    async def version(self, _request: Request) -> HTTPResponse:
        return web.json({"version": ollama.VERSION})

    async def tags(self, request: Request) -> HTTPResponse:
        return web.json(ollama.tags(self._entries(request)))

    async def ps(self, request: Request) -> HTTPResponse:
        return web.json(ollama.running(entry | self._end_of(entry) for entry in self._entries(request)))

    def _end_of(self, entry: dict[str, Any]) -> dict[str, Any]:
        """When it is to leave, if it is."""
        fleet, catalogue = self._fleet, self._live.catalogue
        now = Circumstances(in_flight=fleet.in_flight)
        return {"expires": leaves_at(catalogue.resolve(entry["id"]), catalogue, fleet.snapshot, now, time.time())}

    async def show(self, request: Request) -> HTTPResponse:
        body = web.json_object(request)
        model = body.get("model") or body.get("name")
        if not isinstance(model, str):
            raise errors.missing_model_field()
        wanted = (model, model.removesuffix(":latest"))
        entry = next((entry for entry in self._entries(request) if entry["id"] in wanted), None)
        if entry is None:
            raise errors.model_not_found(model)
        return web.json(ollama.shown(entry))

    def _entries(self, request: Request) -> list[dict[str, Any]]:
        files = self._files()
        return [entry | files.get(entry["id"], {}) for entry in self._models.entries(request)]

    def _files(self) -> dict[str, dict[str, Any]]:
        """What neurons say of their files, by model."""
        return {
            model_id: {
                "size_bytes": entry.size_bytes or 0,
                "quant": entry.quant or "",
                "held_mb": entry.vram_used_mb or entry.vram_estimate_mb or 0,
            }
            for view in self._fleet.views
            for model_id, entry in view.models.items()
        }

    # ---- answers

    async def chat(self, request: Request) -> HTTPResponse | None:
        return await self._answer(request, await reading(request, ollama.read_chat, web.json_object(request)))

    async def generate(self, request: Request) -> HTTPResponse | None:
        return await self._answer(request, await reading(request, ollama.read_generate, web.json_object(request)))

    async def _answer(self, request: Request, asked: ollama.Asked) -> HTTPResponse | None:
        clock = ollama.Clock()
        call = await call_of(request, asked.path, asked.body, self._names)
        if asked.empty:
            async with self._charges.asking(call.principal):
                return web.json(await self._only_loaded(request, asked, call, clock))
        with self._staying(call, asked.keep_alive):
            if call.stream:
                sink = TranslatingSink(web.SanicSink(request), _LineStream(asked, clock))
                await answered(self._dispatcher, request, call, sink)
                return None
            collector = Collector()
            await answered(self._dispatcher, request, call, collector)
        return web.json(ollama.from_completion(collector.answer(), asked, clock), headers=collector.headers)

    async def _only_loaded(
        self, request: Request, asked: ollama.Asked, call: Call, clock: ollama.Clock
    ) -> dict[str, Any]:
        """Nothing is to be answered: the model comes, or with `keep_alive` 0 it leaves as soon as it is idle."""
        if asked.keep_alive == 0:
            if not any(entry["id"] in (asked.model, call.model_id) for entry in self._models.entries(request)):
                raise errors.model_not_found(asked.model)
            await self._stay(call.model_id, 0)
            return ollama.unloaded(asked, clock)
        await self._lifecycle.ensure_loaded(call.model_id)
        if asked.keep_alive is not None:
            await self._stay(call.model_id, asked.keep_alive)
        return ollama.loaded(asked, clock)

    @contextlib.contextmanager
    def _staying(self, call: Call, keep_alive: float | None) -> Iterator[None]:
        """What is said about the model's stay holds from the end of the answer on, also when its client left."""
        try:
            yield
        finally:
            if keep_alive is not None:
                self._stay(call.model_id, keep_alive)

    def _stay(self, model_id: str, ttl: float) -> asyncio.Task[list[None]]:
        replicas = self._fleet.snapshot.servable.get(model_id, ())
        return self._lifecycle.stay(model_id, ttl, [replica.node for replica in replicas])

    async def embed(self, request: Request) -> HTTPResponse:
        return web.json(await self._embeddings(request, "input"))

    async def embeddings(self, request: Request) -> HTTPResponse:
        """The older form: one text, one vector."""
        told = await self._embeddings(request, "prompt")
        return web.json({"embedding": told["embeddings"][0]})

    async def _embeddings(self, request: Request, field: str) -> dict[str, Any]:
        clock = ollama.Clock()
        body, keep_alive = await reading(request, ollama.read_embed, web.json_object(request), field)
        call, collector = await call_of(request, EMBEDDINGS, body, self._names), Collector()
        with self._staying(call, keep_alive):
            await answered(self._dispatcher, request, call, collector)
        return ollama.from_embeddings(collector.answer(), body["model"], clock)


class _LineStream:
    """A `StreamDialect` of lines."""

    head: Headers = _NDJSON
    comment = b""

    def __init__(self, asked: ollama.Asked, clock: ollama.Clock) -> None:
        self._translator = ollama.StreamTranslator(asked, clock)

    @property
    def over(self) -> bool:
        return self._translator.over

    @property
    def error(self) -> CortexError | None:
        return self._translator.error

    def opened(self) -> bytes:
        return b""

    async def begin(self, _events: bytes) -> None:
        return

    def push(self, events: bytes) -> bytes:
        return self._translator.push(events)

    def silence(self) -> bytes:
        return self._translator.silence()

    def end(self) -> bytes:
        return self._translator.end()

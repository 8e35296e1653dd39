"""Ollama's API for clients that speak nothing else: translated, answered by the fleet, translated back."""

from __future__ import annotations

from typing import Any

from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.errors import CortexError
from cortex.gateway.api.models import ModelsApi
from cortex.gateway.api.translated import answered, call_of
from cortex.gateway.fleet.lifecycle import Lifecycle
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.proxy.call import Names
from cortex.gateway.proxy.dispatch import Dispatcher
from cortex.gateway.proxy.sinks import Collector, TranslatingSink
from cortex.net.headers import Headers
from cortex.net.relay import stream_headers
from cortex.wire import ollama
from cortex.wire.ollama.request import EMBEDDINGS

_NDJSON = stream_headers([("content-type", "application/x-ndjson")])


class OllamaApi:
    def __init__(
        self, dispatcher: Dispatcher, names: Names, models: ModelsApi, lifecycle: Lifecycle, fleet: Fleet
    ) -> None:
        self._dispatcher = dispatcher
        self._names = names
        self._models = models
        self._lifecycle = lifecycle
        self._fleet = fleet

    # ---- models

    async def version(self, _request: Request) -> HTTPResponse:
        return web.json({"version": ollama.VERSION})

    async def tags(self, request: Request) -> HTTPResponse:
        return web.json(ollama.tags(self._entries(request)))

    async def ps(self, request: Request) -> HTTPResponse:
        return web.json(ollama.running(self._entries(request)))

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
        return [entry | self._files.get(entry["id"], {}) for entry in self._models.entries(request)]

    @property
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
        return await self._answer(request, ollama.read_chat(web.json_object(request)))

    async def generate(self, request: Request) -> HTTPResponse | None:
        return await self._answer(request, ollama.read_generate(web.json_object(request)))

    async def _answer(self, request: Request, asked: ollama.Asked) -> HTTPResponse | None:
        clock = ollama.Clock()
        call = call_of(request, asked.path, asked.body, self._names)
        if asked.empty:
            await self._lifecycle.ensure_loaded(call.model_id)
            return web.json(ollama.loaded(asked, clock))
        if call.stream:
            sink = TranslatingSink(web.SanicSink(request), _LineStream(asked, clock))
            await answered(self._dispatcher, request, call, sink)
            return None
        collector = Collector()
        await answered(self._dispatcher, request, call, collector)
        return web.json(ollama.from_completion(collector.answer(), asked, clock), headers=collector.headers)

    async def embed(self, request: Request) -> HTTPResponse:
        return web.json(await self._embeddings(request, "input"))

    async def embeddings(self, request: Request) -> HTTPResponse:
        """The older form: one text, one vector."""
        told = await self._embeddings(request, "prompt")
        return web.json({"embedding": told["embeddings"][0]})

    async def _embeddings(self, request: Request, field: str) -> dict[str, Any]:
        clock = ollama.Clock()
        body = ollama.read_embed(web.json_object(request), field)
        collector = Collector()
        await answered(self._dispatcher, request, call_of(request, EMBEDDINGS, body, self._names), collector)
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

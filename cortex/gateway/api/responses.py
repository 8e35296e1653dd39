"""OpenAI's Responses: translated to chat completions, answered by the fleet, translated back. Nothing is stored."""

from __future__ import annotations

from typing import Any

from sanic import Request
from sanic.response import HTTPResponse

from cortex import web
from cortex.errors import CortexError
from cortex.gateway.api.translated import CHAT_PATH, answered, call_of
from cortex.gateway.proxy.call import Names
from cortex.gateway.proxy.dispatch import Dispatcher
from cortex.gateway.proxy.sinks import Collector, ServerSentEvents, TranslatingSink
from cortex.wire import responses


class ResponsesApi:
    def __init__(self, dispatcher: Dispatcher, names: Names) -> None:
        self._dispatcher = dispatcher
        self._names = names

    async def create(self, request: Request) -> HTTPResponse | None:
        """A Response, or its events."""
        body = web.json_object(request)
        call = call_of(request, CHAT_PATH, responses.to_chat(body), self._names)
        if call.stream:
            sink = TranslatingSink(web.SanicSink(request), _ResponseStream(body))
            await answered(self._dispatcher, request, call, sink)
            return None
        collector = Collector()
        await answered(self._dispatcher, request, call, collector)
        return web.json(responses.from_chat(collector.answer(), request=body), headers=collector.headers)


class _ResponseStream(ServerSentEvents):
    """A `StreamDialect`: the response is created at once, and is in progress while its model loads."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._translator = responses.StreamTranslator(body)

    @property
    def over(self) -> bool:
        return self._translator.over

    @property
    def error(self) -> CortexError | None:
        return self._translator.error

    def opened(self) -> bytes:
        return self._translator.start()

    async def begin(self, _events: bytes) -> None:
        return

    def push(self, events: bytes) -> bytes:
        return self._translator.push(events)

    def silence(self) -> bytes:
        return self._translator.in_progress()

    def end(self) -> bytes:
        return self._translator.end()

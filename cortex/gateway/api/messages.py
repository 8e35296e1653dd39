"""Anthropic's Messages: translated to chat completions, answered by the fleet, translated back.

message_start tells how many tokens the prompt has, before the first token: they are counted by the model's own engine.
Where that fails, a quarter of the body's bytes stands there, and message_delta tells what the engine says.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sanic import Request
from sanic.response import HTTPResponse

from cortex import web
from cortex.errors import CortexError
from cortex.gateway.api.reading import reading
from cortex.gateway.api.translated import CHAT_PATH, answered, call_of
from cortex.gateway.images.inline import Images
from cortex.gateway.keys.charges import Charges
from cortex.gateway.proxy.call import Call, Names
from cortex.gateway.proxy.dispatch import Dispatcher
from cortex.gateway.proxy.sinks import Collector, ServerSentEvents, TranslatingSink
from cortex.gateway.proxy.tokens import COUNT_PATH, Tokens
from cortex.wire import anthropic, sse
from cortex.wire.chat.deltas import Broke, read

COUNT_PATIENCE_S = 5.0  # a stream's first token does not wait longer to be announced with a count
_BYTES_PER_TOKEN = 4
_PING = sse.event(b'{"type":"ping"}', "ping")


class MessagesApi:
    def __init__(self, dispatcher: Dispatcher, tokens: Tokens, names: Names, charges: Charges, images: Images) -> None:
        self._dispatcher = dispatcher
        self._tokens = tokens
        self._names = names
        self._charges = charges
        self._images = images

    async def create(self, request: Request) -> HTTPResponse | None:
        """A Message, or its events. Query, version and beta headers change nothing."""
        body = web.json_object(request)
        chat = await self._images.inlined(await reading(request, anthropic.to_chat, body))
        call = await call_of(request, CHAT_PATH, chat, self._names)
        request.ctx.fields["model"] = call.model_id
        if not call.stream:
            return await self._whole(request, body, call)
        stream = _MessageStream(body, call, self._tokens, request.ctx.id)
        sink = TranslatingSink(web.SanicSink(request), stream, headers=_named(request))
        await answered(self._dispatcher, request, call, sink)
        return None

    async def count(self, request: Request) -> HTTPResponse:
        """`{"input_tokens"}`, exactly, also of a model that is not loaded."""
        body = web.json_object(request)
        chat = await self._images.inlined(await reading(request, anthropic.count_to_chat, body))
        call = await call_of(request, COUNT_PATH, chat, self._names)
        request.ctx.fields["model"] = call.model_id
        async with self._charges.asking(call.principal):
            count = await self._tokens.count(call)
        told: dict[str, Any] = {"input_tokens": count}
        if body.get("context_management"):  # nothing is edited here
            told["context_management"] = {"original_input_tokens": count}
        return web.json(told, headers=dict(_named(request)))

    async def _whole(self, request: Request, body: dict[str, Any], call: Call) -> HTTPResponse:
        collector = Collector()
        await answered(self._dispatcher, request, call, collector)
        message = anthropic.from_chat(collector.answer(), request=body)
        return web.json(message, headers=collector.headers | dict(_named(request)))


def _named(request: Request) -> list[tuple[str, str]]:
    """The request's id as Anthropic's clients look for it."""
    return [("request-id", request.ctx.id)]


class _MessageStream(ServerSentEvents):
    """A `StreamDialect`: before the first token only pings, which clients take also in front of message_start."""

    def __init__(self, body: dict[str, Any], call: Call, tokens: Tokens, request_id: str) -> None:
        self._body = body
        self._call = call
        self._tokens = tokens
        self._request_id = request_id
        self._translator = self._new(0)
        self._begun = False

    def _new(self, input_tokens: int) -> anthropic.StreamTranslator:
        return anthropic.StreamTranslator(self._body, input_tokens=input_tokens, request_id=self._request_id)

    @property
    def over(self) -> bool:
        return self._translator.over

    @property
    def error(self) -> CortexError | None:
        return self._translator.error

    def opened(self) -> bytes:
        return b""

    async def begin(self, events: bytes) -> None:
        if not isinstance(next(read(events), None), Broke):
            self._translator = self._new(await self._input_tokens())

    async def _input_tokens(self) -> int:
        try:
            async with asyncio.timeout(COUNT_PATIENCE_S):
                return await self._tokens.count(self._call)
        except (CortexError, TimeoutError):
            return len(self._call.body) // _BYTES_PER_TOKEN

    def push(self, events: bytes) -> bytes:
        if not self._begun:
            first = next(read(events), None)
            if isinstance(first, Broke):  # a message that never began is no message
                return self._translator.fail(first.error)
        self._begun = True
        return self._translator.push(events)

    def silence(self) -> bytes:
        return self._translator.ping() if self._begun else _PING

    def end(self) -> bytes:
        return self._translator.end()

"""OpenAI's Responses: translated to chat completions, answered by the fleet, translated back; kept where the operator wants it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.errors import CortexError
from cortex.gateway.api.gate import principal_of
from cortex.gateway.api.reading import reading
from cortex.gateway.api.translated import CHAT_PATH, answered, call_of
from cortex.gateway.images.inline import Images
from cortex.gateway.proxy.call import Names
from cortex.gateway.proxy.dispatch import ClientSink, Dispatcher
from cortex.gateway.proxy.sinks import Collector, ServerSentEvents, TranslatingSink
from cortex.gateway.response_store import ResponseStore
from cortex.net.headers import Headers
from cortex.wire import responses
from cortex.wire.chat.images import with_images


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request with what it follows in its input, and whose its answer is. `keep`: for requests that follow it.

    images  what the URLs of images stand for: before they are looked up, those of what it follows
    """

    id: str
    owner: str
    body: dict[str, Any]
    keep: bool
    images: Mapping[str, str] = field(default_factory=dict)

    def kept(self, response: dict[str, Any]) -> responses.Kept:
        return responses.Kept(response, self.body["input"], self.images)


class ResponsesApi:
    def __init__(self, dispatcher: Dispatcher, names: Names, store: ResponseStore, images: Images) -> None:
        self._dispatcher = dispatcher
        self._names = names
        self._store = store
        self._images = images

    async def create(self, request: Request) -> HTTPResponse | None:
        """A Response, or its events."""
        asked, chat = await self._shown(request, await self._asked(request, web.json_object(request)))
        call = await call_of(request, CHAT_PATH, chat, self._names)
        if call.stream:
            stream = _ResponseStream(asked)
            client: ClientSink = web.SanicSink(request)
            if asked.keep:
                client = _KeepingSink(client, stream, asked, self._store)
            await answered(self._dispatcher, request, call, TranslatingSink(client, stream))
            return None
        collector = Collector()
        await answered(self._dispatcher, request, call, collector)
        response = responses.from_chat(collector.answer(), request=asked.body, response_id=asked.id)
        if asked.keep:
            await self._store.keep(asked.owner, asked.kept(response))
        return web.json(response, headers=collector.headers)

    async def _asked(self, request: Request, body: dict[str, Any]) -> _Asked:
        owner, new_id = _owner(request), responses.new_id()
        wishes = await reading(request, responses.wishes_of, body, on=self._store.on)
        if not (wishes.keep or wishes.previous or wishes.referenced):
            return _Asked(new_id, owner, body, keep=False)
        previous = await self._store.find(owner, wishes.previous) if wishes.previous else None
        items = await self._store.outputs(owner, wishes.sources) if wishes.sources else {}
        whole = await reading(request, responses.with_history, body, wishes, new_id, previous, items)
        return _Asked(new_id, owner, whole, wishes.keep, previous.images if previous else {})

    async def _shown(self, request: Request, asked: _Asked) -> tuple[_Asked, dict[str, Any]]:
        """The request as the chat that a model is shown. An image that was named by URL is fetched once in a conversation."""
        chat = await reading(request, responses.to_chat, asked.body)
        found = await self._images.found(chat, asked.images)
        return (replace(asked, images=found), with_images(chat, found)) if found else (asked, chat)

    # ---- what is kept

    async def retrieve(self, request: Request, response_id: str) -> HTTPResponse:
        if request.args.get("stream") == "true":
            raise errors.invalid_request("stream: only a response in the background could be streamed", param="stream")
        return web.json((await self._kept(request, response_id)).response)

    async def input_items(self, request: Request, response_id: str) -> HTTPResponse:
        """A page of what the model was shown, what came from responses before it included."""
        kept = await self._kept(request, response_id)
        return web.json(responses.item_page(kept.input, request.args))

    async def delete(self, request: Request, response_id: str) -> HTTPResponse:
        """Those that follow it keep what they were asked."""
        if not (self._is_on() and await self._store.forget(_owner(request), response_id)):
            raise _no_response(response_id)
        return web.json({"id": response_id, "object": "response", "deleted": True})

    async def _kept(self, request: Request, response_id: str) -> responses.Kept:
        kept = await self._store.find(_owner(request), response_id) if self._is_on() else None
        if kept is None:
            raise _no_response(response_id)
        return kept

    def _is_on(self) -> bool:
        """Raises CortexError 400 naming the setting."""
        if not self._store.on:
            raise errors.invalid_request(
                "responses are not stored here: '[responses] store = true' in cortex.toml lets them be",
                code="responses_not_stored",
            )
        return True


def _owner(request: Request) -> str:
    """A key, of which no part has a blank; nobody's answers are nobody's."""
    principal = principal_of(request)
    return f"{principal.account_id} {principal.key_id}" if principal else ""


def _no_response(response_id: str) -> CortexError:
    return errors.not_found(f"Response with id '{response_id}' not found.")


class _ResponseStream(ServerSentEvents):
    """A `StreamDialect`: the response is created at once, and is in progress while its model loads."""

    def __init__(self, asked: _Asked) -> None:
        self._translator = responses.StreamTranslator(asked.body, response_id=asked.id)

    @property
    def over(self) -> bool:
        return self._translator.over

    @property
    def error(self) -> CortexError | None:
        return self._translator.error

    @property
    def response(self) -> dict[str, Any] | None:
        """What the stream ended with, if it ended well."""
        return self._translator.response

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


class _KeepingSink:
    """A client that hears of the end of its response once that is kept: the next request may follow it at once."""

    def __init__(self, client: ClientSink, stream: _ResponseStream, asked: _Asked, store: ResponseStore) -> None:
        self._client = client
        self._stream = stream
        self._asked = asked
        self._store = store
        self._kept = False

    @property
    def status(self) -> int | None:
        return self._client.status

    async def start(self, status: int, headers: Headers) -> None:
        await self._client.start(status, headers)

    async def send(self, data: bytes) -> None:
        if not self._kept and (response := self._stream.response):
            self._kept = True
            await self._store.keep(self._asked.owner, self._asked.kept(response))
        await self._client.send(data)

    async def finish(self) -> None:
        await self._client.finish()

    def abort(self, error: Exception) -> None:
        self._client.abort(error)

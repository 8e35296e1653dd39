"""The engine process's server: the routes of llama.cpp's, on a Unix socket, one generation at a time.

The event loop has a thread of its own, and so have the library's calls: neither waits for the other. A connection that
closes ends its generation after the batch or token that is being computed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import orjson
from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.neuron.engine.outcome import EngineFailed
from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.harness.ctransformers_engine.answers import Counts, Piece, Shape
from cortex.neuron.harness.ctransformers_engine.engine import Engine
from cortex.neuron.harness.ctransformers_engine.generate import Cancelled
from cortex.neuron.harness.ctransformers_engine.model import inspect, load
from cortex.neuron.harness.ctransformers_engine.sandbox import Sandbox
from cortex.neuron.harness.ctransformers_engine.worker import Worker
from cortex.wire import sse
from cortex.wire.errors import openai_event

MAX_BODY_BYTES = 64 << 20  # the neuron's own bound is smaller, or the operator's word
MAX_SPLIT_BYTES = 8 << 20  # of a text by itself: more takes longer than anybody waits
_STREAM_HEAD = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))


def serve(spec: EngineSpec) -> dict[str, Any]:
    """Load the model and listen on the specification's socket. Raises what says why the file cannot be served, or EngineFailed (start)."""
    sandbox = Sandbox()  # it forks: now there is little to hold on to
    model = inspect(Path(spec.model_path))
    engine = Engine(spec, model, load(spec, model), sandbox)
    listening: Future[None] = Future()
    threading.Thread(target=_listen, args=(engine, listening), name="server", daemon=True).start()
    listening.result()
    return {
        "engine": "ctransformers",
        "model_type": model.kind,
        "template": engine.chats.template is not None,
        "system": "CUDA" if spec.gpu_layers else "CPU",
    }


def _listen(engine: Engine, listening: Future[None]) -> None:
    try:
        asyncio.run(_serve(engine, listening))
    except Exception as error:  # whatever it is, somebody waits to hear of it
        listening.set_exception(EngineFailed(f"the engine cannot listen on its socket: {error}", kind="start"))


async def _serve(engine: Engine, listening: Future[None]) -> None:
    app = web.new_app("engine", max_body_bytes=MAX_BODY_BYTES)
    api = Api(engine)
    for method, path, handler in (
        ("GET", "/health", api.health),
        ("GET", "/props", api.props),
        ("POST", "/tokenize", api.tokenize),
        ("POST", "/detokenize", api.detokenize),
        ("POST", "/apply-template", api.apply_template),
        ("POST", "/v1/chat/completions/input_tokens", api.input_tokens),
        ("POST", "/v1/chat/completions", api.chat),
        ("POST", "/v1/completions", api.completions),
    ):
        web.route(app, method, path, handler)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(engine.spec.socket_path)  # 0600: the process's umask
    sock.listen(128)
    sock.setblocking(False)  # noqa: FBT003  the socket module takes it so
    server: Any = await app.create_server(sock=sock, return_asyncio_server=True, access_log=False)
    await server.startup()
    await server.before_start()
    await server.after_start()
    listening.set_result(None)
    await asyncio.Event().wait()  # the process ends, and with it this


class Api:
    """The routes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._worker = Worker("library")
        self._chats = Worker("chats")  # a template that takes its time keeps no completion waiting

    async def health(self, _request: Request) -> HTTPResponse:
        return web.json({"status": "ok"})

    async def props(self, _request: Request) -> HTTPResponse:
        spec, words, template = self._engine.spec, self._engine.vocabulary, self._engine.chats.template
        return web.json(
            {
                "default_generation_settings": {"n_ctx": spec.context},
                "total_slots": 1,
                "model_alias": spec.alias,
                "chat_template": template.source if template else "",
                "bos_token": words.marker(words.bos),
                "n_vocab": self._engine.vocab_size,
            }
        )

    async def tokenize(self, request: Request) -> HTTPResponse:
        body = web.json_object(request)
        if not isinstance(text := body.get("content"), str):
            raise errors.invalid_request("'content' must be a string", param="content")
        if len(text.encode()) > MAX_SPLIT_BYTES:
            raise errors.body_too_large(MAX_SPLIT_BYTES)
        split = functools.partial(
            self._engine.prompter.text,
            special=body.get("parse_special") is not False,
            begin=body.get("add_special") is True,
        )
        tokens = await self._worker.call(split, text)
        shown = body.get("with_pieces") is True
        return web.json({"tokens": [{"id": each, "piece": self._piece(each)} for each in tokens] if shown else tokens})

    def _piece(self, token: int) -> str | list[int]:
        """A token's text, or its bytes where they are no text by themselves."""
        raw = self._raw(token)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return list(raw)

    def _raw(self, token: int) -> bytes:
        words = self._engine.vocabulary
        return words.pieces[token] or words.marker(token).encode()

    async def detokenize(self, request: Request) -> HTTPResponse:
        tokens = web.json_object(request).get("tokens")
        pieces = self._engine.vocabulary.pieces
        if not isinstance(tokens, list) or not all(
            isinstance(each, int) and 0 <= each < len(pieces) for each in tokens
        ):
            raise errors.invalid_request(
                f"'tokens' must be a list of numbers from 0 to {len(pieces) - 1}", param="tokens"
            )
        text = b"".join(map(self._raw, tokens))
        return web.json({"content": text.decode(errors="replace")})

    async def apply_template(self, request: Request) -> HTTPResponse:
        return web.json({"prompt": await self._chats.call(self._engine.chats.shown, web.json_object(request))})

    async def input_tokens(self, request: Request) -> HTTPResponse:
        """What the same chat would be counted as."""
        rendered = await self._chats.call(self._engine.chats.rendered, web.json_object(request))
        prompt = await self._worker.call(self._engine.prompter.rendered, *rendered)
        return web.json({"input_tokens": len(prompt), "object": "response.input_tokens"})

    async def chat(self, request: Request) -> HTTPResponse | None:
        return await self._answer(request, chat=True)

    async def completions(self, request: Request) -> HTTPResponse | None:
        return await self._answer(request, chat=False)

    async def _answer(self, request: Request, *, chat: bool) -> HTTPResponse | None:
        body = web.json_object(request)
        if body.get("messages" if chat else "prompt") is None:
            raise errors.invalid_request(f"missing '{'messages' if chat else 'prompt'}' in the request body")
        shape, counts = Shape(self._engine.spec.alias, chat=chat), Counts()
        rendered = await self._chats.call(self._engine.chats.rendered, body) if chat else None

        def produce(cancelled: Cancelled) -> Iterator[Piece]:
            return self._engine.answer(body, counts, cancelled, rendered)

        async with contextlib.aclosing(self._worker.run(produce)) as pieces:
            if body.get("stream") is True:
                usage = (body.get("stream_options") or {}).get("include_usage") is True
                await _stream(web.SanicSink(request), pieces, shape, counts, usage=usage)
                return None
            return web.json(shape.whole(await _gathered(pieces), counts))


async def _gathered(pieces: AsyncIterator[Piece | None]) -> list[list[Piece]]:
    answers: dict[int, list[Piece]] = {}
    async for piece in pieces:
        if piece is not None:
            answers.setdefault(piece.index, []).append(piece)
    return [answers[index] for index in sorted(answers)]


async def _stream(
    sink: web.SanicSink, pieces: AsyncIterator[Piece | None], shape: Shape, counts: Counts, *, usage: bool
) -> None:
    """Events as they come. What is wrong with a request shows before the first piece, and has a status then."""
    opened: set[int] = set()
    try:
        async for piece in pieces:
            if sink.status is None:
                await sink.start(200, _STREAM_HEAD)
            await sink.send(sse.comment() if piece is None else _events(piece, shape, counts, opened))
        if last := shape.last(counts, usage=usage):
            await sink.send(sse.event(orjson.dumps(last)))
        await sink.send(sse.event(b"[DONE]"))
    except errors.CortexError as error:
        if sink.status is None:
            raise
        await sink.send(openai_event(error))
    await sink.finish()


def _events(piece: Piece, shape: Shape, counts: Counts, opened: set[int]) -> bytes:
    chunks = []
    if piece.index not in opened:
        opened.add(piece.index)
        chunks += [opening for opening in [shape.opening(piece.index)] if opening]
    chunk = shape.chunk(piece)
    chunks.append(chunk | {"timings": counts.timings()} if piece.finish else chunk)
    return b"".join(sse.event(orjson.dumps(each)) for each in chunks)

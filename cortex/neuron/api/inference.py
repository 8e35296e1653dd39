"""`/v1/*`: a request is checked, waits for its model and a place there, and is relayed to the engine as the answer is made.

A client that leaves, while queued, during prefill or in mid-answer, cancels this handler: the place is freed and the
engine's connection closed, which ends the generation.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import orjson
from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.errors import CortexError
from cortex.net.errors import ConnectFailed, IdleTimeout, NetError
from cortex.net.keepalive import open_with_keepalive
from cortex.net.pool import Exchange, Pool
from cortex.net.relay import relay
from cortex.neuron.models.loading import Loaded
from cortex.neuron.models.registry import Registry
from cortex.neuron.models.slot import Slot
from cortex.wire.errors import openai_event
from cortex.wire.sse import comment

MAX_ERROR_BODY_BYTES = 64 * 1024
DEATH_NOTICE_S = 1.0  # how long to wait for the operating system to say why an engine's connection broke
_JSON = (("content-type", "application/json"),)
_WAITING = comment("waiting for the model")


@dataclass(slots=True)
class Call:
    """One inference request on its way."""

    slot: Slot
    path: str
    body: dict[str, Any]
    raw: bytes

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True


class InferenceApi:
    """Handlers of the OpenAI routes; `idle_timeout_s` is the longest silence of an answer."""

    def __init__(self, registry: Registry, pool: Pool, *, idle_timeout_s: float) -> None:
        self._registry = registry
        self._pool = pool
        self._idle_timeout_s = idle_timeout_s

    async def infer(self, request: Request) -> HTTPResponse | None:
        """Chat completions, completions, embeddings, rerank: the same path at the engine."""
        body = web.json_object(request)
        if not isinstance(model := body.get("model"), str) or not model:
            raise errors.missing_model_field()
        request.ctx.fields["model"] = model
        call = Call(self._registry.slot(model), request.path, body, request.body)
        sink = web.SanicSink(request)
        async with contextlib.AsyncExitStack() as stack:
            await self._answer(call, sink, stack)
        return None

    async def _answer(self, call: Call, sink: web.SanicSink, stack: contextlib.AsyncExitStack) -> None:
        """Everything before the first byte may fail with a status; afterwards a stream ends with an error event."""
        try:
            exchange, started = await self._open(call, sink, stack)
            async with exchange:
                if exchange.status != 200:
                    raise await self._engine_error(call, exchange)
                await relay(exchange, sink, started=started, observer=None, idle_timeout_s=self._idle_timeout_s)
        except NetError as error:
            await self._break_off(call, sink, await self._explain(call, error))
        except CortexError as error:
            await self._break_off(call, sink, error)

    async def _open(self, call: Call, sink: web.SanicSink, stack: contextlib.AsyncExitStack) -> tuple[Exchange, bool]:
        opening = self._open_engine(call, stack)
        if call.stream:
            return await open_with_keepalive(opening, sink, comment=_WAITING)
        return await opening, False

    async def _open_engine(self, call: Call, stack: contextlib.AsyncExitStack) -> Exchange:
        loaded = await stack.enter_async_context(call.slot.use(self._registry.wait_s(call.slot)))
        try:
            return await self._ask(call, loaded)
        except ConnectFailed:  # nothing was sent: it had just died, and the next engine may serve this request
            await call.slot.cause_of_death(DEATH_NOTICE_S)
            return await self._ask(call, await call.slot.ready(self._registry.wait_s(call.slot)))

    async def _ask(self, call: Call, loaded: Loaded) -> Exchange:
        checked = loaded.harness.check_request(call.path, call.body, loaded.spec)
        payload = call.raw if checked is call.body else orjson.dumps(checked)
        # No time-out for the head: a long prefill is silent by nature, and the client's own patience decides.
        return await self._pool.open(loaded.engine.address, "POST", call.path, headers=_JSON, body=payload)

    async def _engine_error(self, call: Call, exchange: Exchange) -> CortexError:
        body = await exchange.read_all(MAX_ERROR_BODY_BYTES, self._idle_timeout_s)
        loaded = call.slot.loaded
        return (
            loaded.harness.engine_error(exchange.status, body)
            if loaded
            else errors.upstream_failed("the engine answered with an error and ended")
        )

    async def _explain(self, call: Call, error: NetError) -> CortexError:
        """What the client hears of a broken engine: the cause, once the operating system has told it."""
        if isinstance(error, IdleTimeout):
            return errors.upstream_stalled(error.seconds)
        cause = await call.slot.cause_of_death(DEATH_NOTICE_S)
        told = f": {cause}" if cause else ""
        return errors.upstream_failed(f"the engine of model '{call.slot.id}' broke off{told}", code="engine_failed")

    async def _break_off(self, call: Call, sink: web.SanicSink, error: CortexError) -> None:
        if sink.status is None or not call.stream:
            raise error  # an answer of one piece that had begun is cut short, so that nobody takes it for a whole one
        await sink.send(openai_event(error))
        await sink.finish()

"""`/v1/*`: a request waits for its model and a place there, is checked, and its answer passes as the engine makes it.

What its harness translates (chats and completions) is a stream at the engine, whatever the client asked for. A client that leaves, while queued, during prefill or in mid-answer, cancels this handler: the place is freed and the
engine's connection closed, which ends the generation.
"""

from __future__ import annotations

import contextlib
import weakref
from dataclasses import dataclass
from typing import Any

from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.errors import CortexError
from cortex.net.errors import ConnectFailed, IdleTimeout, NetError
from cortex.net.keepalive import open_with_keepalive
from cortex.net.pool import Exchange, Pool
from cortex.net.relay import relay
from cortex.neuron.api.answer import answer
from cortex.neuron.api.patience import Patience, Pulse, patience
from cortex.neuron.harness.base import Translation
from cortex.neuron.models.loading import Loaded
from cortex.neuron.models.registry import Registry
from cortex.neuron.models.slot import Slot
from cortex.wire.errors import openai_event
from cortex.wire.fields import written
from cortex.wire.fleet import ModelStatus
from cortex.wire.principal import Caller, caller_of
from cortex.wire.sse import comment

MAX_ERROR_BODY_BYTES = 64 * 1024
DEATH_NOTICE_S = 1.0  # how long to wait for the operating system to say why an engine's connection broke
_JSON = (("content-type", "application/json"),)
_ENGINES_OWN = frozenset({"server", "access-control-allow-origin"})  # said of itself, not of this API
_WAITING = comment("waiting for the model")


@dataclass(slots=True)
class Call:
    """One inference request on its way. `translation` is there from when the engine was asked, if it needs one."""

    slot: Slot
    path: str
    body: dict[str, Any]
    raw: bytes
    caller: Caller | None = None
    translation: Translation | None = None

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True


class InferenceApi:
    """Handlers of the OpenAI routes; `idle_timeout_s` is the longest silence of an answer."""

    def __init__(self, registry: Registry, pool: Pool, *, idle_timeout_s: float) -> None:
        self._registry = registry
        self._pool = pool
        self._idle_timeout_s = idle_timeout_s
        self._pulses: weakref.WeakKeyDictionary[Slot, Pulse] = weakref.WeakKeyDictionary()

    async def infer(self, request: Request) -> HTTPResponse | None:
        """Chat completions, completions, embeddings, rerank: the same path at the engine."""
        body = web.json_object(request)
        if not isinstance(model := body.get("model"), str) or not model:
            raise errors.missing_model_field()
        request.ctx.fields["model"] = model
        call = Call(self._registry.slot(model), request.path, body, request.body, caller_of(request.headers))
        sink = web.SanicSink(request)
        async with contextlib.AsyncExitStack() as stack:
            await self._answer(call, sink, stack)
        return None

    async def _answer(self, call: Call, sink: web.SanicSink, stack: contextlib.AsyncExitStack) -> None:
        """Everything before the first byte may fail with a status; afterwards a stream ends with an error event."""
        try:
            async with patience(self._pulses.setdefault(call.slot, Pulse()), self._idle_timeout_s) as waiting:
                exchange, started = await self._open(call, sink, stack, waiting)
                async with exchange:
                    await self._pass(call, exchange, sink, waiting, started=started)
        except NetError as error:
            await self._break_off(call, sink, await self._explain(call, error))
        except CortexError as error:
            await self._break_off(call, sink, error)

    async def _pass(
        self, call: Call, exchange: Exchange, sink: web.SanicSink, waiting: Patience, *, started: bool
    ) -> None:
        if exchange.status != 200:
            raise await self._engine_error(call, exchange)
        if call.translation:
            await answer(exchange, sink, call.translation, waiting, started=started)
        else:
            exchange.headers = [field for field in exchange.headers if field[0] not in _ENGINES_OWN]
            await relay(exchange, sink, started=started, observer=None, idle_timeout_s=self._idle_timeout_s)

    async def _open(
        self, call: Call, sink: web.SanicSink, stack: contextlib.AsyncExitStack, waiting: Patience
    ) -> tuple[Exchange, bool]:
        opening = self._open_engine(call, stack, waiting)
        if call.stream:
            return await open_with_keepalive(opening, sink, comment=_WAITING)
        return await opening, False

    async def _open_engine(self, call: Call, stack: contextlib.AsyncExitStack, waiting: Patience) -> Exchange:
        loaded = await stack.enter_async_context(call.slot.use(self._registry.wait_s(call.slot), call.caller))
        try:
            return await self._ask(call, loaded, waiting)
        except ConnectFailed:  # nothing was sent: it had just died, and the next engine may serve this request
            await call.slot.cause_of_death(DEATH_NOTICE_S)
            return await self._ask(call, await call.slot.ready(self._registry.wait_s(call.slot)), waiting)

    async def _ask(self, call: Call, loaded: Loaded, waiting: Patience) -> Exchange:
        prepared = loaded.harness.prepare(call.path, call.body, loaded.spec)
        payload = call.raw if prepared.body is call.body else written(prepared.body)
        call.translation = prepared.translation
        opening = self._pool.open(loaded.engine.address, "POST", call.path, headers=_JSON, body=payload)
        # What tells no progress is silent by nature until it is done, and the client's own patience decides.
        return await (waiting.on(opening) if prepared.translation else opening)

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
        if call.slot.status is ModelStatus.draining:  # its time was up
            return call.slot.error or errors.shutting_down()
        cause = await call.slot.cause_of_death(DEATH_NOTICE_S)
        told = f": {cause}" if cause else ""
        return errors.upstream_failed(f"the engine of model '{call.slot.id}' broke off{told}", code="engine_failed")

    async def _break_off(self, call: Call, sink: web.SanicSink, error: CortexError) -> None:
        if sink.status is None or not call.stream:
            raise error  # an answer of one piece that had begun is cut short, so that nobody takes it for a whole one
        await sink.send(openai_event(error))
        await sink.finish()

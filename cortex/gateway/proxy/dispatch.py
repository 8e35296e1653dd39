"""One request's way to a neuron and back.

1. Route. A model that has to be loaded is waited for; a stream gets comments meanwhile.
2. Open (opening.py). What fails before the first byte is tried on another replica, and the client sees nothing of it.
3. Relay, verbatim, observed on the side.
4. End: a whole answer, an error event that a stream's client understands, or a connection that is visibly cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from cortex import errors
from cortex.config.gateway import WaitPolicy
from cortex.errors import CortexError
from cortex.gateway.fleet.lifecycle import Lifecycle
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.keys.charges import Charges
from cortex.gateway.live import Live
from cortex.gateway.metrics import Metrics
from cortex.gateway.proxy.call import Call
from cortex.gateway.proxy.journey import Journey, NeuronAnswer
from cortex.gateway.proxy.observe import Observation
from cortex.gateway.proxy.opening import Decide, Opener
from cortex.gateway.routing.decisions import Place, Serve
from cortex.gateway.routing.modality import refusal
from cortex.net.errors import IdleTimeout, NetError
from cortex.net.headers import Headers
from cortex.net.keepalive import open_with_keepalive
from cortex.net.pool import Exchange
from cortex.net.relay import relay
from cortex.tasks import running
from cortex.wire import sse
from cortex.wire.errors import openai_event

LOADING_S = 5.0  # when nobody knows how long a load will take

T = TypeVar("T")


class ClientSink(Protocol):
    """`net.relay.Sink`, with whether the answer has begun, and a way to cut it visibly."""

    @property
    def status(self) -> int | None: ...

    async def start(self, status: int, headers: Headers) -> None: ...
    async def send(self, data: bytes) -> None: ...
    async def finish(self) -> None: ...
    def abort(self, error: Exception) -> None: ...


class Dispatcher:
    """Sends calls to replicas. `closing` is set once, at shutdown: from then on nothing new is taken; `end` ends the rest."""

    def __init__(
        self,
        opener: Opener,
        decide: Decide,
        fleet: Fleet,
        lifecycle: Lifecycle,
        metrics: Metrics,
        live: Live,
        charges: Charges,
    ) -> None:
        self._opener = opener
        self._decide = decide
        self._fleet = fleet
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._live = live
        self._charges = charges
        self.closing = False

    async def end(self) -> None:
        """Whatever runs ends now: a stream with an error event, a waiter with 503, all as `shutting_down`."""
        await self._opener.end()

    async def answer(self, call: Call, sink: ClientSink) -> Journey:
        """Answer a call into `sink`. Raises CortexError or NeuronAnswer while nothing was sent; afterwards the stream ends well by itself."""
        if self.closing:
            raise errors.shutting_down()
        with Journey(call, self._fleet) as journey:
            if call.principal is None:
                await self._answer(journey, sink)
            else:
                async with self._charges.charging(call.principal, call.estimate, lambda: journey.totals):
                    await self._answer(journey, sink)
            return journey

    async def _answer(self, journey: Journey, sink: ClientSink) -> None:
        try:
            await self._travel(journey, sink)
        except (CortexError, NeuronAnswer) as error:
            if sink.status is None:
                raise
            await sink.send(error.event() if isinstance(error, NeuronAnswer) else openai_event(error))
            await sink.finish()

    async def _travel(self, journey: Journey, sink: ClientSink) -> None:
        self._prefer_warm(journey)
        call, started = journey.call, False
        exchange = await self._opener.open(journey)
        if exchange is None:
            self._check_use(call)
        if exchange is None and self._policy(call) == "fail-fast":
            raise await self._being_loaded(call)
        if exchange is None and not call.stream:
            exchange = await self._open_patiently(journey)
        if exchange is None:
            exchange, started = await open_with_keepalive(
                self._open_patiently(journey),
                sink,
                grace_s=self._live.settings.keepalive_secs,
                interval_s=self._live.settings.keepalive_secs,
                comment=sse.comment("loading " + "".join(filter(str.isprintable, call.model_id))),
            )
        try:
            await self._relay(journey, exchange, sink, started=started)
        finally:
            exchange.close()

    # ---- a model that is not loaded

    def _check_use(self, call: Call) -> None:
        """Nobody leaves for a model that would refuse the call. Raises CortexError 422."""
        if error := refusal(call.model_id, call.path, self._live.catalogue, self._fleet.snapshot):
            raise error

    def _policy(self, call: Call) -> WaitPolicy:
        return call.wait or self._live.settings.wait

    def _prefer_warm(self, journey: Journey) -> None:
        """A client that asks for whatever is warm gets the next target of its alias that is loaded.

        The first one is loaded beside it, when nobody has to leave for it.
        """
        call = journey.call
        if not call.alternatives or self._policy(call) != "warm":
            return
        decision = self._decide(call.model_id)
        if isinstance(decision, Serve):
            return
        if warm := next((each for each in call.alternatives if isinstance(self._decide(each), Serve)), None):
            journey.call, journey.decision = call.for_model(warm), f"served warm instead of {call.model_id}"
            if isinstance(decision, Place) and not decision.candidates[0].victims:
                self._lifecycle.begin(call.model_id)

    async def _being_loaded(self, call: Call) -> CortexError:
        self._lifecycle.begin(call.model_id)
        loading = await self._lifecycle.loading(call.model_id)
        return errors.unavailable(
            f"model '{call.model_id}' is being loaded",
            retry_after=loading.get("eta_seconds", LOADING_S),
            loading=loading,
        )

    # ---- 2. open

    async def _open_patiently(self, journey: Journey) -> Exchange:
        while (exchange := await self._opener.open(journey)) is None:
            journey.decision = await self._unless_ended(self._lifecycle.ensure_loaded(journey.call.model_id))
        return exchange

    async def _unless_ended(self, waiting: Coroutine[Any, Any, T]) -> T:
        async with running(waiting, name="wait") as done, running(self._opener.ended.wait(), name="end") as ended:
            await asyncio.wait([done, ended], return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                return done.result()
        raise errors.shutting_down()

    # ---- 3. relay

    async def _relay(self, journey: Journey, exchange: Exchange, sink: ClientSink, *, started: bool) -> None:
        replica = journey.replica
        assert replica is not None  # noqa: S101  the exchange is open with it
        events = exchange.is_event_stream()
        exchange.headers = [
            *exchange.headers,
            ("x-cortex-node", replica.node),
            ("x-cortex-decision", _printable(journey.decision)),
        ]
        observation = Observation(stream=events, began=journey.began)
        try:
            await relay(
                exchange,
                sink,
                started=started,
                observer=observation,
                idle_timeout_s=self._live.settings.idle_timeout_secs,
            )
        except NetError as error:
            if not self._opener.ended.is_set():
                self._opener.failed(replica, error)
            if not events:
                sink.abort(error)  # the client must see that it is not whole
                return
            raise errors.shutting_down() if self._opener.ended.is_set() else _broken(error) from error
        else:
            if observation.failed:  # told by the neuron, in the stream: its model is not what the last poll said
                self._opener.doubt(replica)
        finally:
            journey.totals = observation.end()
            self._metrics.answered(replica.model_id, replica.node, journey.totals)


def _printable(text: str) -> str:
    """Fit for a header: ids come from clients and from files."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def _broken(error: NetError) -> CortexError:
    """After the first byte: the last event of the stream."""
    if isinstance(error, IdleTimeout):
        return errors.upstream_stalled(error.seconds)
    return errors.upstream_failed("the neuron broke off in the middle of its answer")

"""One request's way to a neuron and back.

1. Route. A model that has to be loaded is waited for; a stream gets comments meanwhile.
2. Open. What fails before the first byte is tried on another replica, and the client sees nothing of it.
   A neuron that fails three of them in a row gets none until it answers a probe.
3. Relay, verbatim, observed on the side.
4. End: a whole answer, an error event that a stream's client understands, or a connection that is visibly cut.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from cortex import errors
from cortex.config.gateway import WaitPolicy
from cortex.errors import CortexError
from cortex.gateway.fleet.breakers import Breakers
from cortex.gateway.fleet.client import NeuronClient
from cortex.gateway.fleet.lifecycle import Lifecycle
from cortex.gateway.fleet.poller import Poller
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.keys.charges import Charges
from cortex.gateway.live import Live
from cortex.gateway.metrics import Metrics
from cortex.gateway.proxy.call import Call
from cortex.gateway.proxy.journey import Journey, NeuronAnswer
from cortex.gateway.proxy.observe import Observation
from cortex.gateway.routing.decisions import Decision, Place, Reject, Serve
from cortex.gateway.routing.modality import refusal
from cortex.net.errors import IdleTimeout, NetError
from cortex.net.headers import Headers, forwardable_response_headers
from cortex.net.keepalive import open_with_keepalive
from cortex.net.pool import Exchange, Pool
from cortex.net.relay import relay
from cortex.tasks import running
from cortex.wire import sse
from cortex.wire.errors import openai_event
from cortex.wire.fleet import ModelStatus

ERROR_LIMIT_BYTES = 1024 * 1024
LOGGED_CHARS = 600
QUICK_CONNECT_S = 0.3  # where another replica could serve as well: a host that is gone answers nothing at all
NOT_FOUND = 404
LOADING_S = 5.0  # when nobody knows how long a load will take

T = TypeVar("T")
log = logging.getLogger(__name__)


class Decide(Protocol):
    """The router over the fleet's present snapshot."""

    def __call__(self, model: str, avoid: Collection[str] = (), /, *, prefix: bytes = b"") -> Decision: ...


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
        decide: Decide,
        fleet: Fleet,
        clients: Mapping[str, NeuronClient],
        poller: Poller,
        breakers: Breakers,
        lifecycle: Lifecycle,
        pool: Pool,
        metrics: Metrics,
        live: Live,
        charges: Charges,
    ) -> None:
        self._decide = decide
        self._fleet = fleet
        self._clients = clients
        self._poller = poller
        self._breakers = breakers
        self._lifecycle = lifecycle
        self._pool = pool
        self._metrics = metrics
        self._live = live
        self._charges = charges
        self.closing = False
        self._ended = asyncio.Event()

    async def end(self) -> None:
        """Whatever runs ends now: a stream with an error event, a waiter with 503, all as `shutting_down`."""
        self._ended.set()
        await self._pool.aclose()

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
        exchange = await self._open(journey)
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
        while (exchange := await self._open(journey)) is None:
            journey.decision = await self._unless_ended(self._lifecycle.ensure_loaded(journey.call.model_id))
        return exchange

    async def _unless_ended(self, waiting: Coroutine[Any, Any, T]) -> T:
        async with running(waiting, name="wait") as done, running(self._ended.wait(), name="end") as ended:
            await asyncio.wait([done, ended], return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                return done.result()
        raise errors.shutting_down()

    async def _open(self, journey: Journey) -> Exchange | None:
        """The first replica's answer that is none of its own failures; None when the model has to be loaded first."""
        while True:
            match self._decide(journey.call.model_id, journey.tried, prefix=journey.call.prefix):
                case Serve() as replica:
                    if exchange := await self._attempt(journey, replica):
                        return exchange
                case Reject(node=str() as node) if journey.looks_at(node):  # before that is told it is heard anew
                    await self._poller.refresh(node)
                case Reject(error):
                    raise journey.failure or error
                case _ if journey.tried and journey.failure:  # no other replica has it now
                    if not await self._is_gone(journey):
                        raise journey.failure
                    return None  # its next place is found as for any model that is loaded nowhere
                case _:
                    return None

    async def _is_gone(self, journey: Journey) -> bool:
        """Whether the neuron that failed the call answers neither the look that followed nor a poll. Then it counts as down."""
        replica = journey.replica
        if replica is None or isinstance(journey.failure, NeuronAnswer):
            return False
        if await self._breakers.is_cut_off(replica.node):  # known sooner than a poll's time-out
            return True
        view = await self._poller.refresh(replica.node)
        if view.healthy and not view.misses:
            return False
        self._breakers.trip(replica.node, replica.address)
        return True

    async def _attempt(self, journey: Journey, replica: Serve) -> Exchange | None:
        """Send the call to one replica. None: route again, this one cannot serve it."""
        journey.use(replica)
        self._metrics.sent(replica.model_id, replica.node)
        try:
            exchange = await self._pool.open(
                replica.address,
                "POST",
                journey.call.path,
                headers=self._headers(journey.call, replica),
                body=journey.call.body,
                head_timeout_s=self._head_timeout_s(journey.call),
                connect_timeout_s=self._connect_timeout_s(journey, replica),
            )
            self._breakers.answered(replica.node)
            if exchange.status < 400:
                return exchange
            async with exchange:
                body = await exchange.read_all(ERROR_LIMIT_BYTES, self._live.settings.idle_timeout_secs)
        except NetError as error:
            if self._ended.is_set():
                raise errors.shutting_down() from error
            self._failed(replica, error)
            self._breakers.failed(replica.node, replica.address)
            if isinstance(error, IdleTimeout):  # it may have worked all the while: not twice
                raise errors.upstream_stalled(error.seconds) from error
            journey.leave(errors.upstream_failed(f"node '{replica.node}' could not be reached or broke off"))
            return None
        except ValueError as error:  # a header that could be read as two
            raise errors.invalid_request(f"this request cannot be passed on: {error}") from error
        await self._refused(
            journey,
            replica,
            NeuronAnswer(replica.node, exchange.status, forwardable_response_headers(exchange.headers), body),
        )
        return None

    def _headers(self, call: Call, replica: Serve) -> Headers:
        """The client's own, and what the neuron wants to see."""
        client = self._clients.get(replica.node)
        return [*call.headers, *client.credentials_for(replica.address)] if client else call.headers

    def _connect_timeout_s(self, journey: Journey, replica: Serve) -> float | None:
        """Soon elsewhere, if there is an elsewhere; else with all patience."""
        servable = self._fleet.snapshot.servable.get(replica.model_id, ())
        if len(servable) < 2:
            return None
        elsewhere = any(each.node != replica.node and each.node not in journey.tried for each in servable)
        return QUICK_CONNECT_S if elsewhere else None

    def _head_timeout_s(self, call: Call) -> float:
        """A stream's head comes at once; any other answer comes when it is made, and may take as long as a load."""
        settings = self._live.settings
        return (
            settings.idle_timeout_secs if call.stream else max(settings.idle_timeout_secs, settings.load_timeout_secs)
        )

    async def _refused(self, journey: Journey, replica: Serve, answer: NeuronAnswer) -> None:
        """Return when another look at the fleet may help; raise the neuron's answer when it stands."""
        log.warning(
            "neuron answered %s: %s",
            answer.status,
            answer.body[: 4 * LOGGED_CHARS].decode(errors="replace")[:LOGGED_CHARS],
            extra={"fields": {"model": replica.model_id, "node": replica.node}},
        )
        if answer.status >= 500 or answer.status == 401:
            self._metrics.failed(replica.model_id, replica.node)
        self._metrics.answered(replica.model_id, replica.node, Observation(stream=False, began=journey.began).end())
        busy = answer.status == 429 or answer.error.code == "rate_limit_exceeded"
        if _is_stale(answer) and not busy:
            view = await self._poller.refresh(replica.node)
            entry = view.models.get(replica.model_id)
            contradicts = view.ready and entry is not None and entry.status == ModelStatus.loaded and not entry.yields
            if answer.status == NOT_FOUND and not contradicts:
                journey.follow()
            else:
                journey.leave(_retryable(answer, replica) if contradicts else answer, avoid=contradicts)
        elif busy or answer.status == 503:
            journey.leave(answer)
        elif answer.status == 401:  # between the two of us: the client's own key is not what it speaks of
            journey.leave(errors.upstream_failed(f"node '{replica.node}' does not accept this gateway's token"))
        else:
            raise answer

    def _failed(self, replica: Serve, error: NetError) -> None:
        log.warning("request failed: %s", error, extra={"fields": {"model": replica.model_id, "node": replica.node}})
        self._metrics.failed(replica.model_id, replica.node)
        self._poller.poke(replica.node)

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
            if not self._ended.is_set():
                self._failed(replica, error)
            if not events:
                sink.abort(error)  # the client must see that it is not whole
                return
            raise errors.shutting_down() if self._ended.is_set() else _broken(error) from error
        else:
            if observation.failed:  # told by the neuron, in the stream: its model is not what the last poll said
                self._metrics.failed(replica.model_id, replica.node)
                self._poller.poke(replica.node)
        finally:
            journey.totals = observation.end()
            self._metrics.answered(replica.model_id, replica.node, journey.totals)


def _printable(text: str) -> str:
    """Fit for a header: ids come from clients and from files."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def _is_stale(answer: NeuronAnswer) -> bool:
    """Whether the neuron speaks of its model, which the gateway took for loaded: unloaded meanwhile, or its engine is coming back."""
    if answer.status == NOT_FOUND:
        return answer.error.code == "model_not_found" or "not loaded" in answer.error.message
    return answer.status == 503 and answer.error.code != "shutting_down"


def _retryable(answer: NeuronAnswer, replica: Serve) -> CortexError | NeuronAnswer:
    """A neuron that lists a model and says that it has it not: no word for a client, whose model exists."""
    if answer.status != NOT_FOUND:
        return answer
    return errors.unavailable(f"node '{replica.node}' lists model '{replica.model_id}' and does not serve it")


def _broken(error: NetError) -> CortexError:
    """After the first byte: the last event of the stream."""
    if isinstance(error, IdleTimeout):
        return errors.upstream_stalled(error.seconds)
    return errors.upstream_failed("the neuron broke off in the middle of its answer")

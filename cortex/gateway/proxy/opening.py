"""The replica that answers a call, found by asking: what fails before the first byte is tried on another one.

A neuron's own refusal is judged here: whether another look at the fleet may help, or whether it is the client's answer.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection, Mapping
from typing import Protocol

from cortex import errors
from cortex.errors import CortexError
from cortex.gateway.fleet.breakers import Breakers
from cortex.gateway.fleet.client import NeuronClient
from cortex.gateway.fleet.poller import Poller
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.live import Live
from cortex.gateway.metrics import Metrics
from cortex.gateway.proxy.call import Call
from cortex.gateway.proxy.journey import Journey, NeuronAnswer
from cortex.gateway.proxy.observe import Observation
from cortex.gateway.routing.decisions import Decision, Reject, Serve
from cortex.net.errors import IdleTimeout, NetError
from cortex.net.headers import Headers, forwardable_response_headers
from cortex.net.pool import Exchange, Pool
from cortex.wire.fleet import ModelStatus

ERROR_LIMIT_BYTES = 1024 * 1024
QUICK_CONNECT_S = 0.3  # where another replica could serve as well: a host that is gone answers nothing at all
NOT_FOUND = 404
_CODE = re.compile(r"[a-z]{1,20}(?:_[a-z]{1,20}){1,3}")

log = logging.getLogger(__name__)


class Decide(Protocol):
    """The router over the fleet's present snapshot."""

    def __call__(self, model: str, avoid: Collection[str] = (), /, *, prefix: bytes = b"") -> Decision: ...


class Opener:
    """Opens calls at replicas. `ended` is set once, when whatever runs is to end."""

    def __init__(
        self,
        decide: Decide,
        fleet: Fleet,
        clients: Mapping[str, NeuronClient],
        poller: Poller,
        breakers: Breakers,
        pool: Pool,
        metrics: Metrics,
        live: Live,
    ) -> None:
        self._decide = decide
        self._fleet = fleet
        self._clients = clients
        self._poller = poller
        self._breakers = breakers
        self._pool = pool
        self._metrics = metrics
        self._live = live
        self.ended = asyncio.Event()

    async def end(self) -> None:
        """Every answer breaks off, and nothing is opened any more."""
        self.ended.set()
        await self._pool.aclose()

    async def open(self, journey: Journey) -> Exchange | None:
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
            if self.ended.is_set():
                raise errors.shutting_down() from error
            self.failed(replica, error)
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
            "neuron answered %s",
            _told(answer),
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

    # ---- what is made known of a replica

    def failed(self, replica: Serve, error: NetError) -> None:
        """The way to it failed, before its answer or in the middle of it."""
        log.warning("request failed: %s", error, extra={"fields": {"model": replica.model_id, "node": replica.node}})
        self.doubt(replica)

    def doubt(self, replica: Serve) -> None:
        """It failed a call: the last poll may not hold any more."""
        self._metrics.failed(replica.model_id, replica.node)
        self._poller.poke(replica.node)


def _told(answer: NeuronAnswer) -> str:
    """For the log: its body may quote a prompt, so nothing but the status and what has the form of our codes."""
    code = answer.error.code
    return f"{answer.status} {code}" if code and _CODE.fullmatch(code) else str(answer.status)


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

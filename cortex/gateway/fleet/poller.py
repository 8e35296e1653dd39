"""Asks every neuron how it is: one supervised task for each, so that a hung one delays nobody.

A neuron is asked at once, then every interval (with jitter, so that many gateways do not beat in step), and quickly
while a model there is on its way in or out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterable, Mapping

from cortex.gateway.fleet.client import NeuronClient, NeuronError
from cortex.gateway.fleet.state import Fleet, NeuronView
from cortex.net.address import Address
from cortex.tasks import Tasks
from cortex.wire.fleet import Discovery, Health, ModelEntry, ModelStatus

QUICK_S = 0.5  # while something there is moving; and after a miss, before anybody's wish for another poll is heard
DOWN_S = 1.0  # a neuron that is down is looked for more often: it may be starting
JITTER = 0.1

log = logging.getLogger(__name__)


class Poller:
    """Keeps the fleet's views fresh; it is their only writer."""

    def __init__(self, fleet: Fleet, clients: Mapping[str, NeuronClient], tasks: Tasks, *, interval_s: float) -> None:
        self._fleet = fleet
        self._interval_s = interval_s
        self._tasks = tasks
        self._watches = {name: _Watch(fleet, client) for name, client in clients.items()}

    async def start(self, *, first_round_s: float) -> None:
        """Start polling. Returns when every neuron was asked once, or after `first_round_s`."""
        first = [asyncio.shield(watch.next_poll()) for watch in self._watches.values()]
        for name, watch in self._watches.items():
            self._tasks.start(f"poll {name}", watch.run(self._interval_s))
        if first:
            await asyncio.wait(first, timeout=first_round_s)

    def poke(self, node: str) -> None:
        """Something was seen that the view does not say: ask that neuron again now."""
        self._watches[node].wake()

    async def refresh(self, node: str) -> NeuronView:
        """Ask a neuron again now; returns what was heard."""
        polled = self._watches[node].next_poll()
        self._watches[node].wake()
        return await polled

    async def next_poll(self, node: str) -> NeuronView:
        """The neuron's next poll in its own time."""
        return await self._watches[node].next_poll()


class _Watch:
    """The polling of one neuron."""

    def __init__(self, fleet: Fleet, client: NeuronClient) -> None:
        self._fleet = fleet
        self._client = client
        self._awake = asyncio.Event()
        self._waiting: list[asyncio.Future[NeuronView]] = []
        self._discovery_is_stale = True

    def wake(self) -> None:
        self._awake.set()

    def next_poll(self) -> asyncio.Future[NeuronView]:
        """Done after a poll that begins later than this call."""
        polled: asyncio.Future[NeuronView] = asyncio.get_running_loop().create_future()
        self._waiting.append(polled)
        return polled

    async def run(self, interval_s: float) -> None:
        while True:
            self._awake.clear()
            waiting, self._waiting = self._waiting, []
            view = await self._poll()
            for polled in waiting:
                if not polled.done():
                    polled.set_result(view)
            await self._rest(view, interval_s)

    async def _rest(self, view: NeuronView, interval_s: float) -> None:
        if view.misses:  # many requests that fail together must not count as many misses
            await asyncio.sleep(QUICK_S)
        pause = QUICK_S if view.moving else interval_s if view.healthy else DOWN_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(pause, interval_s) * random.uniform(1 - JITTER, 1 + JITTER)):  # noqa: S311  no secret
                await self._awake.wait()

    async def _poll(self) -> NeuronView:
        name = self._client.name
        try:
            models = await self._client.models()
            health = await self._health()
            discovery = await self._discovery(health)
            addresses = await self._addresses(models, {} if discovery else self._view.addresses)
        except NeuronError as error:
            return self._missed(str(error))
        except Exception:  # whatever a neuron sends, its task goes on
            log.exception("poll of %s failed unexpectedly", name)
            return self._missed("see above")
        if not self._view.healthy:
            log.info("neuron '%s' is healthy", name, extra={"fields": {"models": len(models)}})
        return self._fleet.heard(name, models=models, addresses=addresses, health=health, discovery=discovery)

    def _missed(self, why: str) -> NeuronView:
        self._discovery_is_stale = True
        was = self._view
        view = self._fleet.missed(self._client.name)
        if was.healthy or was.misses == 0:
            log.warning(
                "neuron '%s' missed a poll: %s",
                view.name,
                why,
                extra={"fields": {"misses": view.misses, "healthy": view.healthy}},
            )
        return view

    @property
    def _view(self) -> NeuronView:
        view = self._fleet.view(self._client.name)
        assert view is not None  # noqa: S101  both are made from the configuration
        return view

    async def _health(self) -> Health | None:
        """None when it cannot be had, which by itself makes no neuron unhealthy."""
        try:
            return await self._client.health()
        except NeuronError as error:
            log.debug("%s", error)
            return None

    async def _discovery(self, health: Health | None) -> Discovery | None:
        """Constant facts: asked for when missing, after a miss, and when the neuron has started anew. None: as before."""
        known = self._view.health
        restarted = health is not None and known is not None and health.uptime_secs < known.uptime_secs
        if not (self._discovery_is_stale or restarted):
            return None
        try:
            discovery = await self._client.discovery()
        except NeuronError as error:
            log.debug("%s", error)
            return None
        self._discovery_is_stale = False
        return discovery

    async def _addresses(self, models: Iterable[ModelEntry], known: Mapping[str, Address]) -> dict[str, Address]:
        """Where each loaded model is served: asked once, when it is newly loaded or its neuron has started anew."""
        addresses: dict[str, Address] = {}
        for model_id in (entry.id for entry in models if entry.status == ModelStatus.loaded):
            if (address := known.get(model_id) or await self._address(model_id)) is not None:
                addresses[model_id] = address
        return addresses

    async def _address(self, model_id: str) -> Address | None:
        try:
            return await self._client.inference_address(model_id)
        except NeuronError as error:
            log.warning("%s", error, extra={"fields": {"model": model_id}})
            return None

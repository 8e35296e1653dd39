"""Asks every neuron how it is: one supervised task for each, so that a hung one delays nobody.

A neuron is asked at once, then every interval (with jitter, so that many gateways do not beat in step), and quickly
while a model there is on its way in or out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Mapping

from cortex.gateway.fleet.client import NeuronClient, NeuronError, NeuronRefusal
from cortex.gateway.fleet.state import Fleet, NeuronView
from cortex.net.address import Address
from cortex.tasks import Tasks, cancel
from cortex.wire.fleet import Discovery, Health, ModelEntry, ModelStatus

QUICK_S = 0.5  # while something there is moving; and after a miss, before anybody's wish for another poll is heard
DOWN_S = 1.0  # a neuron that is down is looked for more often: it may be starting; not so what answers, and refuses: it logs each time
JITTER = 0.1

log = logging.getLogger(__name__)


class Poller:
    """Keeps the fleet's views fresh.

    interval_s  may be changed at any time
    went_down   told of a neuron's last view when it counts as down
    """

    def __init__(
        self,
        fleet: Fleet,
        clients: Mapping[str, NeuronClient],
        tasks: Tasks,
        *,
        interval_s: float,
        went_down: Callable[[NeuronView], None],
    ) -> None:
        self._went_down = went_down
        self.interval_s = interval_s
        self._fleet = fleet
        self._tasks = tasks
        self._watches = {name: _Watch(fleet, client, went_down) for name, client in clients.items()}

    async def start(self, *, first_round_s: float) -> None:
        """Start polling. Returns when every neuron was asked once, or after `first_round_s`."""
        first = [asyncio.shield(watch.next_poll()) for watch in self._watches.values()]
        for watch in self._watches.values():
            self._start(watch)
        if first:
            await asyncio.wait(first, timeout=first_round_s)

    def add(self, client: NeuronClient) -> None:
        """Poll one more neuron, which the fleet has."""
        watch = self._watches[client.name] = _Watch(self._fleet, client, self._went_down)
        self._start(watch)

    async def remove(self, node: str) -> None:
        """Stop polling. Whoever waits for a poll gets what was heard last."""
        await self._watches.pop(node).end()

    def ask_through(self, client: NeuronClient) -> None:
        """The same neuron, from now on asked through another client."""
        self._watches[client.name].client = client
        self.poke(client.name)

    def poke(self, node: str) -> None:
        """Something was seen that the view does not say: ask that neuron again now."""
        if watch := self._watches.get(node):
            watch.wake()

    async def refresh(self, node: str) -> NeuronView:
        """Ask a neuron again now; returns what was heard."""
        self.poke(node)
        return await self.next_poll(node)

    async def next_poll(self, node: str) -> NeuronView:
        """The neuron's next poll in its own time."""
        watch = self._watches.get(node)
        return await watch.next_poll() if watch else NeuronView(node, endpoint="")

    def _start(self, watch: _Watch) -> None:
        watch.task = self._tasks.start(f"poll {watch.client.name}", watch.run(lambda: self.interval_s))


class _Watch:
    """The polling of one neuron."""

    def __init__(self, fleet: Fleet, client: NeuronClient, went_down: Callable[[NeuronView], None]) -> None:
        self.client = client
        self.task: asyncio.Task[None] | None = None
        self._fleet = fleet
        self._went_down = went_down
        self._last = NeuronView(client.name, endpoint="")
        self._awake = asyncio.Event()
        self._waiting: list[asyncio.Future[NeuronView]] = []
        self._asked: list[asyncio.Future[NeuronView]] = []  # who waits for the poll that runs
        self._discovery_is_stale = True
        self._is_refused = False

    def wake(self) -> None:
        self._awake.set()

    def next_poll(self) -> asyncio.Future[NeuronView]:
        """Done after a poll that begins later than this call."""
        polled: asyncio.Future[NeuronView] = asyncio.get_running_loop().create_future()
        self._waiting.append(polled)
        return polled

    async def end(self) -> None:
        if self.task:
            await cancel(self.task)
        self._tell(self._asked + self._waiting)

    async def run(self, interval_s: Callable[[], float]) -> None:
        while True:
            self._awake.clear()
            self._asked, self._waiting = self._waiting, []
            self._last = await self._poll()
            self._tell(self._asked)
            await self._rest(self._last, interval_s())

    def _tell(self, waiting: Iterable[asyncio.Future[NeuronView]]) -> None:
        for polled in waiting:
            if not polled.done():
                polled.set_result(self._last)

    async def _rest(self, view: NeuronView, interval_s: float) -> None:
        if view.misses:  # many requests that fail together must not count as many misses
            await asyncio.sleep(QUICK_S)
        pause = QUICK_S if view.moving else interval_s if view.healthy or self._is_refused else DOWN_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(pause, interval_s) * random.uniform(1 - JITTER, 1 + JITTER)):  # noqa: S311  no secret
                await self._awake.wait()

    async def _poll(self) -> NeuronView:
        name = self.client.name
        try:
            models = await self.client.models()
            health = await self._health()
            discovery = await self._discovery(health)
            addresses = await self._addresses(models, {} if discovery else self._view.addresses)
        except NeuronError as error:
            self._is_refused = isinstance(error, NeuronRefusal)
            return self._missed(str(error).removeprefix(f"neuron '{name}' "))
        except Exception:  # whatever a neuron sends, its task goes on
            log.exception("poll of %s failed unexpectedly", name)
            return self._missed("its answer cannot be used; the gateway's log has the details")
        if not self._view.healthy:
            log.info("neuron '%s' is healthy", name, extra={"fields": {"models": len(models)}})
        return self._fleet.heard(name, models=models, addresses=addresses, health=health, discovery=discovery)

    def _missed(self, why: str) -> NeuronView:
        self._discovery_is_stale = True
        was = self._view
        view = self._fleet.missed(self.client.name, why)
        if was.healthy and not view.healthy:
            self._went_down(view)
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
        view = self._fleet.view(self.client.name)
        assert view is not None  # noqa: S101  both are made from the configuration
        return view

    async def _health(self) -> Health | None:
        """None when it cannot be had, which by itself makes no neuron unhealthy."""
        try:
            return await self.client.health()
        except NeuronError as error:
            log.debug("%s", error)
            return None

    async def _discovery(self, health: Health | None) -> Discovery | None:
        """Constant facts: asked for when missing, after a miss, and when the neuron has started or found a GPU since. None: as before."""
        if not (self._discovery_is_stale or (health is not None and _is_news(health, self._view))):
            return None
        try:
            discovery = await self.client.discovery()
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
            return await self.client.inference_address(model_id)
        except NeuronError as error:
            log.warning("%s", error, extra={"fields": {"model": model_id}})
            return None


def _is_news(health: Health, known: NeuronView) -> bool:
    """Whether a neuron has started anew, or tells of a GPU that it did not know when it was asked for its facts.

    A driver may take longer to answer at boot than the neuron to be there.
    """
    if known.health is not None and health.uptime_secs < known.health.uptime_secs:
        return True
    listed = {device.index for device in known.discovery.devices} if known.discovery else set()
    return any(device.index not in listed for device in health.devices)

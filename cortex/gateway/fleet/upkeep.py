"""What the gateway does by itself: models that nobody has used for their ttl leave, resident ones come back.

Every gateway of a fleet does so, and none minds the others: a neuron unloads nobody who was used since, and joins loads.
"""

from __future__ import annotations

import asyncio
import logging
import time

from cortex.errors import CortexError
from cortex.gateway.fleet.client import NeuronError
from cortex.gateway.fleet.lifecycle import Lifecycle
from cortex.gateway.fleet.loads import Loads
from cortex.gateway.fleet.poller import Poller
from cortex.gateway.fleet.room import Rooms
from cortex.gateway.fleet.router import Router
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.live import Live
from cortex.gateway.routing.decisions import Candidate
from cortex.gateway.routing.upkeep import Idle, idle_too_long, to_restore
from cortex.wire.fleet import UnloadRequest

TICK_S = 1.0
PAUSES_S = (10.0, 30.0, 60.0, 300.0, 600.0)  # after a resident model could not be restored so many times
log = logging.getLogger(__name__)


class Upkeep:
    """One task; what takes long (a load) is only begun here and followed like any other."""

    def __init__(
        self,
        fleet: Fleet,
        live: Live,
        router: Router,
        rooms: Rooms,
        loads: Loads,
        poller: Poller,
        lifecycle: Lifecycle,
    ) -> None:
        self._fleet = fleet
        self._live = live
        self._router = router
        self._rooms = rooms
        self._loads = loads
        self._poller = poller
        self._lifecycle = lifecycle
        self._tried: dict[str, tuple[int, float]] = {}  # resident model → failures, and when it may be tried again

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self._tick()
            except Exception:  # one tick that fails must not end all upkeep
                log.exception("upkeep failed")

    async def _tick(self) -> None:
        self._tried = {each: tried for each, tried in self._tried.items() if each not in self._fleet.snapshot.servable}
        for idle in self._idle():
            await self._retire(idle)
        for candidate in self._missing():
            await self._restore(candidate)

    def _idle(self) -> list[Idle]:
        live, fleet = self._live, self._fleet
        return idle_too_long(live.catalogue, fleet.snapshot, self._router.circumstances(), time.time())

    def _missing(self) -> list[Candidate]:
        live, fleet = self._live, self._fleet
        if not live.catalogue.resident.models:
            return []
        return list(to_restore(live.catalogue, fleet.snapshot, self._router.circumstances(), time.time()))

    async def _retire(self, idle: Idle) -> None:
        """Unload, if it still is idle by fresh figures."""
        async with self._rooms.changing(idle.node):
            await self._poller.refresh(idle.node)
            if idle not in self._idle():
                return
            fields = {"model": idle.model_id, "node": idle.node}
            with self._router.leaving(idle.node, [idle.model_id]):
                try:
                    await self._loads.ask_to_leave(
                        idle.node, UnloadRequest(model_id=idle.model_id, if_idle_since=idle.since)
                    )
                    log.info("unloaded: nobody used it for its ttl", extra={"fields": fields})
                except NeuronError as error:
                    log.info("not unloaded: %s", error, extra={"fields": fields})
                await self._poller.refresh(idle.node)

    async def _restore(self, candidate: Candidate) -> None:
        model_id, now = candidate.request.model_id, time.monotonic()
        failures, not_before = self._tried.get(model_id, (0, 0.0))
        if now < not_before:
            return
        log.info("restoring a resident model", extra={"fields": {"model": model_id, "node": candidate.node}})
        self._tried[model_id] = failures + 1, now + PAUSES_S[min(failures, len(PAUSES_S) - 1)]
        try:
            await self._lifecycle.load_on(candidate)
        except CortexError as error:
            log.warning("not restored: %s", error.message, extra={"fields": {"model": model_id}})
        await self._poller.refresh(candidate.node)

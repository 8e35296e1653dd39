"""Making room on a neuron: its victims leave, and the memory is seen to be free before anybody counts on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable

from cortex.gateway.fleet.client import NeuronRefusal
from cortex.gateway.fleet.loads import Loads
from cortex.gateway.fleet.poller import Poller
from cortex.gateway.fleet.router import Router
from cortex.gateway.fleet.state import Fleet, NeuronView
from cortex.gateway.routing.decisions import Candidate, Victim
from cortex.wire.fleet import UnloadRequest

SETTLE_S = 10.0  # a driver that needs longer to show free memory has another problem
PACE_S = 0.1
log = logging.getLogger(__name__)


class Rooms:
    """The neurons' memory. `evicted(model, node)` hears of everybody who left for another model."""

    def __init__(
        self,
        fleet: Fleet,
        loads: Loads,
        poller: Poller,
        router: Router,
        *,
        evicted: Callable[[str, str], None],
    ) -> None:
        self._fleet = fleet
        self._loads = loads
        self._poller = poller
        self._router = router
        self._evicted = evicted
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def changing(self, node: str) -> asyncio.Lock:
        """Held while a node's memory changes hands, so that no two plans of this gateway count on the same."""
        return self._locks[node]

    async def make(self, candidate: Candidate) -> bool:
        """Evict a candidate's victims. False: one of them is not idle any more, or the model not there; plan again.

        Raises NeuronError when the neuron cannot be asked.
        """
        if not candidate.victims:
            return True
        node, names = candidate.node, [victim.model_id for victim in candidate.victims]
        before_mb = _free_mb(self._fleet.view(node))
        with self._router.leaving(node, names):
            for victim in candidate.victims:
                if not await self._evict(candidate, victim):
                    await self._poller.refresh(node)
                    return False
            await self._settle(node, before_mb, sum(victim.memory_mb or 0 for victim in candidate.victims))
        return True

    async def _evict(self, candidate: Candidate, victim: Victim) -> bool:
        """The neuron is the judge of whether nobody has used it since we looked."""
        fields = {"model": victim.model_id, "node": candidate.node, "for": candidate.request.model_id}
        try:
            await self._loads.ask_to_leave(
                candidate.node, UnloadRequest(model_id=victim.model_id, if_idle_since=victim.last_used)
            )
        except NeuronRefusal as refusal:
            log.info("not evicted: %s", refusal.error.message, extra={"fields": fields})
            return False
        log.info("evicted", extra={"fields": fields})
        self._evicted(victim.model_id, candidate.node)
        return True

    async def _settle(self, node: str, before_mb: int | None, freed_mb: int) -> None:
        """Until the neuron's figure shows what was freed, or stands still."""
        last_mb = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while True:
                    free_mb = _free_mb(await self._poller.refresh(node))
                    if free_mb is None or before_mb is None or free_mb >= before_mb + freed_mb or free_mb == last_mb:
                        return
                    last_mb = free_mb
                    await asyncio.sleep(PACE_S)


def _free_mb(view: NeuronView | None) -> int | None:
    """All memory that models could take there."""
    if view is None or view.health is None:
        return None
    figures = [device.vram_free_mb for device in view.health.devices] or [view.health.memory_free_mb]
    known = [mb for mb in figures if mb is not None]
    return sum(known) if known else None

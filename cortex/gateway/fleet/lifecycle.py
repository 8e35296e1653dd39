"""Brings models up for requests, and takes them down: single-flight for each model in this gateway.

The neuron is the judge: it joins a load that already runs, refuses one that does not fit, and unloads nobody who was
used since. Requests are only waiters: whoever leaves takes nothing with it. A load that was started goes on also when
nobody waits any more; one that still waits for its turn is given up then.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Iterable
from typing import Any

from cortex import errors
from cortex.errors import CortexError
from cortex.gateway.fleet.client import NeuronError
from cortex.gateway.fleet.flight import Flight
from cortex.gateway.fleet.loads import Loads, as_error
from cortex.gateway.fleet.poller import Poller
from cortex.gateway.fleet.room import Rooms
from cortex.gateway.fleet.router import Router
from cortex.gateway.fleet.signal import Signal
from cortex.gateway.fleet.sync import Sync
from cortex.gateway.live import Live
from cortex.gateway.routing.decisions import Candidate, Place, Queue, Serve, Wait
from cortex.tasks import Tasks
from cortex.wire.fleet import Job, KeepRequest

COPY_S = 5.0  # for a copy to begin
log = logging.getLogger(__name__)


class Lifecycle:
    """The flights of this gateway by model."""

    def __init__(
        self,
        router: Router,
        rooms: Rooms,
        loads: Loads,
        poller: Poller,
        changed: Signal,
        sync: Sync,
        tasks: Tasks,
        live: Live,
    ) -> None:
        self._router = router
        self._rooms = rooms
        self._loads = loads
        self._poller = poller
        self._changed = changed
        self.sync = sync
        self._tasks = tasks
        self._live = live
        self._flights: dict[str, tuple[Flight, asyncio.Task[CortexError | None]]] = {}

    async def ensure_loaded(self, model_id: str) -> str:
        """Return when the model is servable somewhere, with how it came there. Raises the CortexError that says why it will not be."""
        with self._router.wanting(model_id):
            flight, flying = self._flights.get(model_id) or self._take_off(model_id)
            if error := await asyncio.shield(flying):
                raise error.with_traceback(None)  # one error for many waiters: their tracebacks must not grow together
            return flight.how

    def begin(self, model_id: str) -> None:
        """Have a model loaded for whoever will ask again; nobody waits."""
        if model_id not in self._flights:
            self._tasks.start(f"want {model_id}", self._quietly(model_id))

    async def _quietly(self, model_id: str) -> None:
        with contextlib.suppress(CortexError):  # its reason is in the log, and told to whoever asks next
            await self.ensure_loaded(model_id)

    async def loading(self, model_id: str) -> dict[str, Any]:
        """How far a load is: `node`, `stage`, `progress` (0 to 1), `eta_seconds`; what is unknown is left out."""
        flight, _ = self._flights.get(model_id, (None, None))
        job = await self._loads.job(flight.node, flight.job_id) if flight and flight.node and flight.job_id else None
        done = job.bytes_done / job.bytes_total if job and job.bytes_done is not None and job.bytes_total else None
        told = {
            "node": (flight and flight.node) or self._whereto(model_id),
            "stage": str(job.stage) if job else "queued",
            "progress": None if done is None else round(done, 3),
            "eta_seconds": job.eta_seconds if job else None,
        }
        return {key: value for key, value in told.items() if value is not None}

    def _whereto(self, model_id: str) -> str | None:
        match self._router.decide(model_id):
            case Place(candidates):
                return candidates[0].node
            case Serve(node=node) | Wait(node=node) | Queue(node=node):
                return node
            case _:
                return None

    async def load_on(self, candidate: Candidate) -> Job | None:
        """Load by hand: make room, and ask the neuron. None: it is loaded. Raises CortexError when it cannot be.

        A neuron that has to get the file from another one only begins to; whoever looks again finds it there.
        """
        if source := candidate.sync_from:
            return await self._begin_copy(candidate, source)
        async with self._rooms.changing(candidate.node):
            try:
                made = await self._rooms.make(candidate)
            except NeuronError as error:
                raise as_error(error) from error
            if not made:
                raise errors.unavailable("a model that was to make room is in use again", retry_after=2)
            return await self._loads.start(candidate)

    def stay(self, model_id: str, ttl: float, nodes: Iterable[str]) -> asyncio.Task[list[None]]:
        """From now on a model leaves these nodes after `ttl` idle seconds; 0: as soon as it is idle; negative: it stays."""
        return self._tasks.start(f"keep {model_id}", self._stay(KeepRequest(model_id=model_id, ttl=ttl), list(nodes)))

    async def _stay(self, request: KeepRequest, nodes: list[str]) -> list[None]:
        return list(await asyncio.gather(*(self._loads.keep(node, request) for node in nodes)))

    async def _begin_copy(self, candidate: Candidate, source: str) -> Job | None:
        model_id = candidate.request.model_id
        try:
            copy, _ = self.sync.copy(
                self._router.listed_as(model_id, source),
                source,
                candidate.node,
                givers=functools.partial(self._router.givers, model_id),
                rate=self._router.rate,
            )
        except NeuronError as error:
            raise as_error(error) from error
        return await copy.begun(COPY_S)

    def _take_off(self, model_id: str) -> tuple[Flight, asyncio.Task[CortexError | None]]:
        profile = self._live.catalogue.profile(model_id)
        flight = Flight(
            model_id,
            self._router,
            self._rooms,
            self._loads,
            self._poller,
            self._changed,
            self.sync,
            patience_s=self._live.settings.load_timeout_secs,
            min_context=profile.min_context if profile else None,
        )
        flying = self._tasks.start(f"load {model_id}", self._fly(flight))
        self._flights[model_id] = flight, flying
        return flight, flying

    async def _fly(self, flight: Flight) -> CortexError | None:
        try:
            return await flight.run()
        finally:
            del self._flights[flight.model_id]

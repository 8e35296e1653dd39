"""What neurons are asked to do with their models: load, follow a load, unload. Their refusals become a client's errors."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from cortex import errors
from cortex.errors import CortexError
from cortex.gateway.fleet.client import JOB_WAIT_S, NeuronClient, NeuronError, NeuronRefusal
from cortex.gateway.fleet.poller import Poller
from cortex.gateway.metrics import Metrics
from cortex.gateway.routing.decisions import Candidate
from cortex.wire.errors import error_of
from cortex.wire.fleet import Job, JobStage, KeepRequest, UnloadRequest, YieldRequest

GIVE_WAY_S = 3.0  # is asked for again and again: a gateway that ends stops nobody for longer
PACE_S = 0.1  # a neuron that cannot wait with its answer must not be asked in a tight loop
log = logging.getLogger(__name__)


class Loads:
    """The fleet's load jobs, as one gateway sees them."""

    def __init__(
        self, clients: Mapping[str, NeuronClient], poller: Poller, metrics: Metrics, defrag_after: Callable[[], int]
    ) -> None:
        self._clients = clients
        self._poller = poller
        self._metrics = metrics
        self._defrag_after = defrag_after  # unloads on one node; 0: never
        self._unloads: Counter[str] = Counter()

    async def start(self, candidate: Candidate) -> Job | None:
        """Ask a neuron to load. None: it is loaded. Raises CortexError when it refuses or cannot be asked."""
        node, model_id = candidate.node, candidate.request.model_id
        log.info("loading", extra={"fields": {"model": model_id, "node": node}})
        try:
            return await self._clients[node].load(candidate.request)
        except NeuronError as error:
            raise logged(node, model_id, as_error(error)) from error
        finally:
            self._poller.poke(node)

    def loaded(self, candidate: Candidate) -> None:
        """A load of ours is at its end, and for a request."""
        self._metrics.cold_start(candidate.request.model_id, candidate.node)

    async def job(self, node: str, job_id: str) -> Job | None:
        """A job as it is now; None when the neuron does not tell."""
        try:
            return await self._clients[node].job(job_id)
        except NeuronError:
            return None

    async def follow(self, node: str, job_id: str, moved: Callable[[], None] = lambda: None) -> CortexError | None:
        """Wait for a job's end, however long it takes; its error if it failed. `moved` hears of bytes that came."""
        done = None
        while True:
            try:
                job = await self._clients[node].job(job_id, wait_s=JOB_WAIT_S)
            except NeuronError as error:
                return logged(node, job_id, as_error(error))
            if job.finished:
                return logged(node, job.model_id, error_of(job.error)) if job.stage == JobStage.failed else None
            if job.bytes_done != done:
                done = job.bytes_done
                moved()
            await asyncio.sleep(PACE_S)

    async def finish(self, node: str, job: Job) -> None:
        """Follow a load to its end, and see to it that the fleet knows. Raises CortexError when it failed."""
        failure = await self.follow(node, job.id)
        await self._poller.refresh(node)
        if failure:
            raise failure

    async def unload(self, node: str, request: UnloadRequest) -> None:
        """Raises CortexError when the neuron refuses or cannot be asked."""
        try:
            await self.ask_to_leave(node, request)
        except NeuronError as error:
            raise logged(node, request.model_id, as_error(error)) from error
        finally:
            await self._poller.refresh(node)

    async def keep(self, node: str, request: KeepRequest) -> None:
        """How long a model stays there while it is idle. A neuron that cannot be told goes on as before, and the log says so."""
        try:
            await self._clients[node].keep(request)
        except NeuronError as error:
            log.warning("not kept: %s", error, extra={"fields": {"model": request.model_id, "node": node}})
        await self._poller.refresh(node)

    async def ask_to_give_way(self, node: str, model_ids: Iterable[str], to: str) -> None:
        """Models whose place is waited for take nothing new, from any gateway. A neuron that knows no such thing goes on as before."""
        for model_id in model_ids:
            try:
                await self._clients[node].give_way(YieldRequest(model_id=model_id, to=to, seconds=GIVE_WAY_S))
            except NeuronError as error:
                log.info("does not give way: %s", error, extra={"fields": {"model": model_id, "node": node}})

    async def ask_to_leave(self, node: str, request: UnloadRequest) -> None:
        """Raises NeuronError when the neuron refuses or cannot be asked."""
        await self._clients[node].unload(request)
        self._unloads[node] += 1
        self._metrics.unloaded(node)
        if (after := self._defrag_after()) and self._unloads[node] % after == 0:
            self._metrics.defrag_due(node)  # engines are processes, and leave nothing behind: it is only counted
            log.info("defragmentation is due", extra={"fields": {"node": node, "unloads": self._unloads[node]}})


def logged(node: str, what: str, error: CortexError) -> CortexError:
    log.warning(
        "load or unload failed: %s", error.message, extra={"fields": {"model": what, "node": node, "code": error.code}}
    )
    return error


def as_error(error: NeuronError) -> CortexError:
    """For a client: what the neuron said, or that it could not be asked; the log has the details."""
    return (
        error.for_client
        if isinstance(error, NeuronRefusal)
        else errors.upstream_failed("the neuron could not be asked to load or unload it")
    )

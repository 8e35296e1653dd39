"""Makes neurons load models, and waits for it: single-flight for each model in this gateway.

The neuron is the judge: it joins a load that already runs, and refuses one that does not fit. Requests are only waiters:
whoever leaves takes nothing with it, and a load that was started goes on also when nobody waits any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from cortex import errors
from cortex.errors import CortexError
from cortex.gateway.fleet.client import JOB_WAIT_S, NeuronClient, NeuronError, NeuronRefusal, error_from
from cortex.gateway.fleet.poller import Poller
from cortex.gateway.routing.decisions import Candidate, Decision, Place, Queue, Reject, Serve, Wait
from cortex.tasks import Tasks
from cortex.wire.fleet import Job, JobStage, UnloadRequest

ALREADY_LOADING = 409
PACE_S = 0.1  # a neuron that cannot wait with its answer must not be asked in a tight loop

log = logging.getLogger(__name__)


class Lifecycle:
    """Loads and unloads. `decide` is the router over the fleet's present snapshot; `loaded(model, node)` hears of cold starts."""

    def __init__(
        self,
        clients: Mapping[str, NeuronClient],
        poller: Poller,
        tasks: Tasks,
        *,
        decide: Callable[[str], Decision],
        load_timeout_s: float,
        loaded: Callable[[str, str], None],
    ) -> None:
        self._clients = clients
        self._poller = poller
        self._tasks = tasks
        self._decide = decide
        self._load_timeout_s = load_timeout_s
        self._loaded = loaded
        self._flights: dict[str, asyncio.Task[CortexError | None]] = {}

    async def ensure_loaded(self, model_id: str) -> None:
        """Return when the model is servable somewhere. Raises the CortexError that says why it will not be."""
        flight = self._flights.get(model_id)
        if flight is None:
            flight = self._tasks.start(f"load {model_id}", self._fly(model_id))
            self._flights[model_id] = flight
        if error := await asyncio.shield(flight):
            raise error.with_traceback(None)  # one error for many waiters: their tracebacks must not grow together

    async def start_load(self, candidate: Candidate) -> Job | None:
        """Ask a neuron to load. None: it is loaded. Raises CortexError when it refuses or cannot be asked."""
        node, model_id = candidate.node, candidate.request.model_id
        log.info("loading", extra={"fields": {"model": model_id, "node": node}})
        try:
            return await self._clients[node].load(candidate.request)
        except NeuronError as error:
            raise _logged(node, model_id, _as_error(error)) from error
        finally:
            self._poller.poke(node)

    async def finish_load(self, node: str, job: Job) -> None:
        """Follow a load to its end, and see to it that the fleet knows. Raises CortexError when it failed."""
        failure = await self._follow(node, job.id)
        await self._poller.refresh(node)
        if failure:
            raise failure

    async def unload(self, node: str, request: UnloadRequest) -> None:
        """Raises CortexError when the neuron refuses or cannot be asked."""
        try:
            await self._clients[node].unload(request)
        except NeuronError as error:
            raise _logged(node, request.model_id, _as_error(error)) from error
        finally:
            await self._poller.refresh(node)

    # ---- one flight

    async def _fly(self, model_id: str) -> CortexError | None:
        try:
            async with asyncio.timeout(self._load_timeout_s):
                return await self._bring_up(model_id)
        except TimeoutError:
            return errors.unavailable(
                f"model '{model_id}' is not loaded after {self._load_timeout_s:g} s; the load goes on", retry_after=30
            )
        finally:
            del self._flights[model_id]

    async def _bring_up(self, model_id: str) -> CortexError | None:
        """Act on one decision after the other until the model is servable or nobody is left to ask.

        No neuron is asked twice to load, and no job is followed twice: what a neuron still reports then is left to its
        own pace.
        """
        asked: set[str] = set()
        followed: set[str] = set()
        failed: list[CortexError] = []
        while True:
            match self._decide(model_id):
                case Serve():
                    return None
                case Reject(error) | Queue(error):
                    return _telling(failed) or error
                case Wait(node, job_id) if job_id and job_id not in followed:
                    followed.add(job_id)
                    outcome = await self._follow(node, job_id)
                case Wait(node):
                    await self._poller.next_poll(node)
                    continue
                case Place(candidates):
                    left = [candidate for candidate in candidates if candidate.node not in asked]
                    if not left:
                        return _telling(failed) or errors.upstream_failed(
                            f"model '{model_id}' was loaded and is gone again"
                        )
                    node = left[0].node
                    outcome = await self._load(left[0])
            asked.add(node)
            if outcome:
                failed.append(outcome)
            await self._poller.refresh(node)

    async def _load(self, candidate: Candidate) -> CortexError | None:
        try:
            job = await self.start_load(candidate)
        except CortexError as error:
            return None if error.status == ALREADY_LOADING else error  # the next poll says by which job
        failure = await self._follow(candidate.node, job.id) if job else None
        if failure is None:
            self._loaded(candidate.request.model_id, candidate.node)
        return failure

    async def _follow(self, node: str, job_id: str) -> CortexError | None:
        """Wait for a job's end, however long it takes; its error if it failed."""
        while True:
            try:
                job = await self._clients[node].job(job_id, wait_s=JOB_WAIT_S)
            except NeuronError as error:
                return _logged(node, job_id, _as_error(error))
            if job.finished:
                return _logged(node, job.model_id, error_from(job.error)) if job.stage == JobStage.failed else None
            await asyncio.sleep(PACE_S)


def _logged(node: str, what: str, error: CortexError) -> CortexError:
    log.warning(
        "load or unload failed: %s", error.message, extra={"fields": {"model": what, "node": node, "code": error.code}}
    )
    return error


def _telling(failed: Sequence[CortexError]) -> CortexError | None:
    """Of what several neurons said, what is worth a retry; else the first, which was the best candidate."""
    return next((error for error in failed if error.retry_after is not None), failed[0] if failed else None)


def _as_error(error: NeuronError) -> CortexError:
    """For a client: what the neuron said, or that it could not be asked; the log has the details."""
    return (
        error.error
        if isinstance(error, NeuronRefusal)
        else errors.upstream_failed("the neuron could not be asked to load or unload it")
    )

"""One model's life on this host: absent → fetching → loading → loaded → draining → absent; `recovering` and `failed` beside it.

One task, `Slot.live`, owns every change of state; everybody else reads, waits, or asks. An engine that dies is a fact:
the slot is `recovering`, requests wait for it, and when engines keep dying it is `failed` with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.engine.outcome import cause_of
from cortex.neuron.engine.process import EngineExit
from cortex.neuron.models.admission import Admission, AdmissionLimits
from cortex.neuron.models.deaths import Deaths
from cortex.neuron.models.jobs import JobRecord
from cortex.neuron.models.loading import Loaded
from cortex.tasks import running
from cortex.wire.fleet import LoadRequest, ModelStatus
from cortex.wire.principal import Caller

T = TypeVar("T")
log = logging.getLogger(__name__)

LEGAL = {
    ModelStatus.fetching: {ModelStatus.loading, ModelStatus.failed, ModelStatus.draining},
    ModelStatus.loading: {ModelStatus.fetching, ModelStatus.loaded, ModelStatus.failed, ModelStatus.draining},
    ModelStatus.loaded: {ModelStatus.recovering, ModelStatus.draining},
    ModelStatus.recovering: {ModelStatus.loaded, ModelStatus.failed, ModelStatus.draining},
    ModelStatus.draining: set(),
    ModelStatus.failed: set(),
}
CRASHES_FORGIVEN = 3  # within the window: one bad prompt must not end a model, a bad file must not flap for ever
CRASH_WINDOW_S = 600.0
RESTART_PAUSE_S = 1.0  # times the crashes so far, so that a crash loop does not eat the host
EXPECTED_S = 1.0
YIELD_RETRY_S = 2.0

Load = Callable[[LoadRequest, JobRecord, Callable[[ModelStatus], None]], Awaitable[Loaded]]


class Slot:
    """A model that somebody asked for. Created by the registry, which keeps the task that runs `live`."""

    def __init__(
        self,
        request: LoadRequest,
        new_job: Callable[[], JobRecord],
        *,
        load: Load,
        unload: Callable[[Loaded], Awaitable[None]],
        limits: Callable[[LoadRequest, Loaded], AdmissionLimits],
        deaths: Deaths,
        after: asyncio.Task[None] | None = None,
    ) -> None:
        self.id = request.model_id
        self.request = request
        self.job = new_job()  # of the load, later of the last recovery
        self.status = ModelStatus.loading
        self.loaded: Loaded | None = None
        self.admission: Admission | None = None  # from the first load on; it outlives the engines
        self.last_used: float | None = None
        self.ttl: float | None = request.ttl or None  # as `wire.fleet.ModelEntry` tells it
        self.error: CortexError | None = None
        self._idle_since = 0.0  # monotonic, like the next and `_yields_until`
        self._loaded_at = 0.0
        self._served = False
        self._yields_until = 0.0
        self.crashes: list[float] = []
        self.last_death: str | None = None
        self._new_job = new_job
        self._load = load
        self._unload = unload
        self._limits = limits
        self._deaths = deaths
        self._after = after
        self._changed = asyncio.Event()
        self._leave = asyncio.Event()
        self._drain_s = 0.0

    def __repr__(self) -> str:
        return f"<Slot {self.id} {self.status}>"

    # ---- the owner

    async def live(self) -> None:
        """From the first load to the end. Returns when the model is gone; a load that failed ends here, too."""
        try:
            await self._unless_leaving(self._start())
            while self.status is ModelStatus.loaded and not self._leave.is_set():
                if (died := await self._unless_leaving(self._death())) and await self._bury(died):
                    await self._unless_leaving(self._recover())
            if self._leave.is_set() and self.status is not ModelStatus.failed:
                await self._drain()
        except Exception:
            log.exception("%s is ended by a fault of ours", self.id)
            if ModelStatus.failed in LEGAL[self.status]:
                self._fail(errors.internal())
        finally:
            await asyncio.shield(self._end())

    async def _unless_leaving(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`, or None when `leave` was asked for first; then `work` is cancelled."""
        async with (
            running(work, name=f"{self.id}: work") as working,
            running(self._leave.wait(), name=f"{self.id}: leave") as leaving,
        ):
            await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None

    async def _start(self) -> None:
        try:
            await self._predecessor_gone()
            await self._become_loaded()
            self._touch()  # somebody asked for it: what nobody used since is older
            self.job.finish()
        except CortexError as error:
            if error.code == "engine_failed":
                self._note_death(error.message)
            self._fail(error)
        except Exception:
            log.exception("loading %s failed", self.id)
            self._fail(errors.internal())

    async def _predecessor_gone(self) -> None:
        """The same model may still be leaving: two engines for one slot must never be."""
        if self._after:
            await asyncio.wait([self._after])
            self._after = None

    async def _become_loaded(self) -> None:
        self.loaded = await self._load(self.request, self.job, self._progress_to)
        if self.admission is None:
            self.admission = Admission(self.id, self._limits(self.request, self.loaded))
        self._loaded_at, self._served = time.monotonic(), False
        self._enter(ModelStatus.loaded)

    async def _death(self) -> EngineExit | None:
        return await self.loaded.engine.wait() if self.loaded else None

    def _note_death(self, reason: str) -> None:
        self.last_death = reason
        self._deaths.add(self.id, cause_of(reason))

    async def _bury(self, died: EngineExit) -> bool:
        """What the engine held is given back, whoever asks for the end meanwhile. Whether another one is to be started."""
        log.error(
            "the engine of %s died: %s", self.id, died.reason, extra={"fields": {"log": " | ".join(died.log_tail[-5:])}}
        )
        now = time.monotonic()
        self._note_death(died.reason)
        self.crashes = [*(moment for moment in self.crashes if now - moment < CRASH_WINDOW_S), now]
        self._enter(ModelStatus.recovering)
        self.job = self._new_job()
        self.job.note(f"the engine died and is started again: {died.reason}")
        await self._end()
        if len(self.crashes) <= CRASHES_FORGIVEN:
            return True
        self._fail(
            errors.unavailable(
                f"the engine of '{self.id}' died {len(self.crashes)} times in {CRASH_WINDOW_S:g} s, last: {died.reason}",
                retry_after=60,
            )
        )
        return False

    async def _recover(self) -> None:
        await asyncio.sleep(max(RESTART_PAUSE_S * (len(self.crashes) - 1), self._deaths.pause_s(self.id)))
        try:
            await self._become_loaded()
            self.job.finish()
        except CortexError as error:
            self._fail(
                errors.unavailable(
                    f"'{self.id}' could not be started again after its engine died ({self.last_death}): {error.message}",
                    retry_after=60,
                )
            )
        except Exception:
            log.exception("starting %s again failed", self.id)
            self._fail(errors.internal())

    async def _drain(self) -> None:
        self._enter(ModelStatus.draining)
        if not self.job.snapshot.finished:
            self.job.finish(errors.unavailable(f"the load of '{self.id}' was ended", retry_after=5))
        await self._predecessor_gone()  # whoever comes next waits for this one alone
        if self.admission is None:
            return
        self.admission.close(self.error or errors.shutting_down())
        if not await self.admission.idle(self._drain_s):
            log.warning(
                "%s still answers %d requests after %g s of draining; they are cut",
                self.id,
                self.admission.in_flight,
                self._drain_s,
            )

    async def _end(self) -> None:
        if self.loaded:
            loaded, self.loaded = self.loaded, None
            await self._unload(loaded)

    def _progress_to(self, status: ModelStatus) -> None:
        """The stages of a load; a recovery is one stage to the outside."""
        if self.status is not ModelStatus.recovering:
            self._enter(status)

    def _enter(self, status: ModelStatus) -> None:
        if status is self.status:
            return
        if status not in LEGAL[self.status]:
            raise RuntimeError(f"{self.id}: {self.status} cannot become {status}")
        log.info("%s: %s → %s", self.id, self.status, status)
        self.status = status
        self._changed.set()
        self._changed = asyncio.Event()

    def _fail(self, error: CortexError) -> None:
        self.error = error
        if self.admission:
            self.admission.close(error)
        self._enter(ModelStatus.failed)
        if not self.job.snapshot.finished:
            self.job.finish(error)

    # ---- what others ask

    @property
    def busy(self) -> int:
        """Requests that run or wait here."""
        return self.admission.in_flight + self.admission.queue_depth if self.admission else 0

    @property
    def is_expected(self) -> bool:
        """It has only just been loaded, and whoever waited for that is on the way here."""
        return not self._served and time.monotonic() - self._loaded_at < EXPECTED_S

    @property
    def yields(self) -> bool:
        """It takes nothing new, because another model has waited too long for its place."""
        return time.monotonic() < self._yields_until

    def give_way(self, seconds: float) -> None:
        self._yields_until = time.monotonic() + seconds

    def has_outlived_its_ttl(self) -> bool:
        """Loaded, used by nobody, and not since as many seconds as it was told to stay."""
        if self.ttl is None or self.ttl < 0 or self.last_used is None or self.busy:
            return False
        return self.status is ModelStatus.loaded and time.monotonic() - self._idle_since > self.ttl

    def _touch(self) -> None:
        """Clocks are set at night: what others compare is the time of day, what is measured here is not."""
        self.last_used, self._idle_since = time.time(), time.monotonic()

    def leave(self, drain_s: float, reason: CortexError | None = None) -> None:
        """Ask the owner to drain and end; `reason` is what waiters hear. Whoever waits for the end awaits the slot's task."""
        self._drain_s = drain_s
        if self.status is not ModelStatus.failed:
            self.error = reason or errors.unavailable(f"model '{self.id}' is being unloaded", retry_after=2)
        self._leave.set()

    async def ready(self, within_s: float) -> Loaded:
        """The running engine; waits while the model loads or recovers. Raises CortexError when it failed, leaves, or takes too long."""
        try:
            async with asyncio.timeout(within_s):
                while self.status in (ModelStatus.fetching, ModelStatus.loading, ModelStatus.recovering):
                    await self._changed.wait()
        except TimeoutError:
            raise errors.unavailable(
                f"model '{self.id}' is still {self.status}", retry_after=5, loading=self.progress()
            ) from None
        if self.loaded is None or self.status is not ModelStatus.loaded:
            raise self.error.again() if self.error else errors.shutting_down()
        return self.loaded

    @contextlib.asynccontextmanager
    async def use(self, within_s: float, caller: Caller | None = None) -> AsyncIterator[Loaded]:
        """Hold one of the model's places: wait until it is loaded, then for a place. The place is freed exactly once."""
        await self.ready(within_s)
        if self.yields:
            raise errors.unavailable(f"model '{self.id}' gives way to another one", retry_after=YIELD_RETRY_S)
        self._served = True
        async with self._places().admit(caller):
            loaded = await self.ready(within_s)  # it may have died while this request was queued
            self._touch()
            try:
                yield loaded
            finally:
                self._touch()

    def _places(self) -> Admission:
        if self.admission is None:
            raise RuntimeError(f"{self!r} has no places before its first load")
        return self.admission

    async def cause_of_death(self, within_s: float) -> str | None:
        """Why the engine ended, once the operating system has said so; None when it lives."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.status is ModelStatus.loaded:
                    await self._changed.wait()
        return self.last_death if self.status in (ModelStatus.recovering, ModelStatus.failed) else None

    def progress(self) -> dict[str, object]:
        job = self.job.snapshot
        progress = (
            round(job.bytes_done / job.bytes_total, 3) if job.bytes_done is not None and job.bytes_total else None
        )
        return {"stage": str(job.stage), "progress": progress, "eta_seconds": job.eta_seconds, "job_id": job.id}

    @property
    def is_gone(self) -> bool:
        return self.status in (ModelStatus.failed, ModelStatus.draining)

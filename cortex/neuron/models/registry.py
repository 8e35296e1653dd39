"""Every model of this host by id: the only way to load, use and unload one.

Owner of the slots. The neuron is the judge: two loads of one model join, an unload with a precondition is refused when
the precondition no longer holds, and a load that does not fit is refused with the numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from cortex import errors
from cortex.config.neuron import NeuronConfig
from cortex.errors import CortexError
from cortex.neuron.models.admission import AdmissionLimits
from cortex.neuron.models.deaths import Deaths
from cortex.neuron.models.jobs import JobRecord, Jobs
from cortex.neuron.models.loading import Loaded, Loader
from cortex.neuron.models.slot import Slot
from cortex.tasks import Tasks
from cortex.wire.fleet import LoadRequest, ModelStatus

log = logging.getLogger(__name__)
_NOT_SETTINGS = {
    "model_id",
    "wait",
    "devices_required",
    "harness",
    "devices",
}  # what old clients always send says nothing about settings


@dataclass(frozen=True, slots=True)
class _Kept:
    """For whom a place is kept; `until` is monotonic."""

    model_id: str
    until: float


class Registry:
    """The slots of this neuron. Use it from the event loop only."""

    def __init__(self, loader: Loader, config: NeuronConfig) -> None:
        self.jobs = Jobs()
        self.deaths = Deaths()
        self.slots: dict[str, Slot] = {}
        self._loader = loader
        self.configure(config)
        self._tasks = Tasks("models")
        self._lives: dict[Slot, asyncio.Task[None]] = {}
        self.closed = False
        self._kept: _Kept | None = None
        self._in_service = asyncio.Event()
        self._in_service.set()

    def configure(self, config: NeuronConfig) -> None:
        """Limits and profiles for what is loaded from now on, and the time that draining has."""
        self._admission = config.admission
        self._profiles = {model.model_id: model for model in config.default_models}
        self._drain_s = config.limits.drain_secs

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Registry]:
        """The registry for the time of a block; leaving it unloads every model, each within the drain time."""
        try:
            yield self
        finally:
            await self.aclose()

    # ---- in and out of service

    @property
    def draining(self) -> bool:
        """By an operator: what runs goes on, nothing new is taken; until told otherwise."""
        return not self._in_service.is_set()

    def drain(self, *, on: bool) -> None:
        if on:
            self._in_service.clear()
        else:
            self._in_service.set()

    async def in_service(self) -> None:
        """Return as soon as it is not drained."""
        await self._in_service.wait()

    # ---- load

    def load(self, request: LoadRequest) -> JobRecord:
        """Start a load, or join the one that is there. Returns at once; the job tells the rest."""
        self._check_open()
        request = self.with_profile(request)
        slot = self.slots.get(request.model_id)
        if slot and not slot.is_gone:
            return self._joined(slot, request)
        self._check_kept(request.model_id)
        self._check_backoff(request.model_id)
        previous = self._lives.get(slot) if slot else None
        slot = Slot(
            request,
            lambda: self.jobs.start(request.model_id),
            load=self._loader.load,
            unload=self._loader.unload,
            limits=self._limits_of,
            deaths=self.deaths,
            after=previous,
        )
        self.slots[slot.id] = slot
        self._lives[slot] = self._tasks.start(f"model {slot.id}", self._live(slot))
        return slot.job

    def _check_open(self) -> None:
        if self.closed:
            raise errors.shutting_down()
        if self.draining:
            raise errors.draining()

    def _check_kept(self, model_id: str) -> None:
        """A place that was asked for in time is not taken by whoever comes first."""
        kept, self._kept = self._kept, None
        if kept and kept.model_id != model_id and time.monotonic() < kept.until:
            self._kept = kept
            raise CortexError(
                f"a place is kept here for model '{kept.model_id}', which has waited too long",
                status=409,
                type="invalid_request_error",
                code="model_busy",
            )

    def _check_backoff(self, model_id: str) -> None:
        """Whoever asks again and again does not start engine after engine that dies."""
        if pause_s := self.deaths.pause_s(model_id):
            failed = self.slots.get(model_id)
            last = f", last: {failed.last_death}" if failed and failed.last_death else ""
            raise errors.unavailable(
                f"engines of '{model_id}' keep dying{last}; the next is started in {pause_s:.0f} s",
                retry_after=math.ceil(pause_s),
            )

    async def _live(self, slot: Slot) -> None:
        try:
            await slot.live()
        finally:
            self._lives.pop(slot, None)
            if slot.status is not ModelStatus.failed and self.slots.get(slot.id) is slot:
                del self.slots[slot.id]  # a failed one stays listed with its reason until it is loaded again

    def _joined(self, slot: Slot, request: LoadRequest) -> JobRecord:
        asked = request.model_dump(exclude_none=True, exclude=_NOT_SETTINGS)
        differing = sorted(name for name, value in asked.items() if getattr(slot.request, name) not in (None, value))
        if differing:
            slot.job.note(
                f"already {slot.status} with other settings ({', '.join(differing)}); unload it first to change them"
            )
        return slot.job

    def with_profile(self, request: LoadRequest) -> LoadRequest:
        """What the operator wrote for this model on this host holds where the request says nothing."""
        profile = self._profiles.get(request.model_id)
        if profile is None:
            return request
        own = profile.load_request().model_dump(exclude_none=True, exclude={"wait", "devices_required"})
        return request.model_copy(
            update={name: value for name, value in own.items() if getattr(request, name) in (None, "auto", "candle")}
        )

    def _limits_of(self, request: LoadRequest, loaded: Loaded) -> AdmissionLimits:
        defaults = self._admission
        return AdmissionLimits(
            max_in_flight=request.max_in_flight or defaults.max_in_flight or loaded.spec.parallel,
            max_queue_depth=defaults.max_queue_depth if request.max_queue_depth is None else request.max_queue_depth,
            max_wait_secs=request.max_wait_secs or defaults.max_wait_secs,
            max_per_principal=defaults.max_per_principal,
        )

    # ---- use

    def slot(self, model_id: str) -> Slot:
        """The slot of a model that is loaded or on its way. Raises 404, or the reason why its load failed."""
        self._check_open()
        slot = self.slots.get(model_id)
        if slot is None:
            raise errors.invalid_request(
                f"model '{model_id}' not loaded on this neuron; load it with POST /models/load",
                code="model_not_found",
                param="model",
                status=404,
                model_id=model_id,
            )
        if slot.status is ModelStatus.failed and slot.error:
            raise slot.error.again()
        return slot

    def wait_s(self, slot: Slot) -> float:
        return slot.admission.limits.max_wait_secs if slot.admission else self._admission.max_wait_secs

    def keep(self, model_id: str, ttl: float) -> None:
        """For how many idle seconds it stays from now on. Raises 404."""
        slot = self.slots.get(model_id)
        if slot is None or slot.is_gone:
            raise errors.model_not_found(model_id, "on any harness")
        slot.ttl = ttl

    def give_way(self, model_id: str, to: str, seconds: float) -> None:
        """For so long it takes nothing new, from whomever, and its place is kept; what it has is finished. Raises 404."""
        slot = self.slots.get(model_id)
        if slot is None or slot.is_gone:
            raise errors.model_not_found(model_id, "on any harness")
        slot.give_way(seconds)
        self._kept = _Kept(to, time.monotonic() + seconds)

    # ---- unload

    async def unload(self, model_id: str, *, if_idle_since: float | None = None) -> None:
        """Drain, stop, reap; the memory is back when this returns. Raises 404, or 409 when the precondition no longer holds."""
        slot = self.slots.get(model_id)
        if slot is None:
            raise errors.model_not_found(model_id, "on any harness")
        if slot.status is ModelStatus.failed:
            del self.slots[model_id]
            return
        if if_idle_since is not None:
            self._check_idle(slot, if_idle_since)
        slot.leave(self._drain_s)
        if life := self._lives.get(slot):
            await asyncio.wait([life])

    def retire_idle(self) -> None:
        """Begin to unload what nobody has used for its ttl."""
        for slot in list(self.slots.values()):
            if slot.has_outlived_its_ttl():
                log.info("%s leaves: nobody used it for %g s", slot.id, slot.ttl)
                slot.leave(self._drain_s)

    def _check_idle(self, slot: Slot, since: float) -> None:
        busy = slot.busy
        if busy or slot.is_expected or slot.status is not ModelStatus.loaded or (slot.last_used or 0) > since:
            raise CortexError(
                f"model '{slot.id}' is {slot.status}, {busy} requests are with it: it was not idle since the given time",
                status=409,
                type="invalid_request_error",
                code="model_busy",
                extras={"in_flight": busy, "last_used": slot.last_used},
            )

    async def aclose(self) -> None:
        """Refuse what is new, let what is in flight finish within the drain time, unload everything, all at once."""
        self.closed = True
        lives = list(self._lives.values())
        for slot in list(self.slots.values()):
            slot.leave(self._drain_s, errors.shutting_down())
        if lives:
            await asyncio.wait(lives)
        await self._tasks.aclose()

    def health(self) -> list[dict[str, Any]]:
        """Admission figures of every loaded model, in the shape of `wire.fleet.ModelHealth`."""
        return [
            {
                "id": slot.id,
                "in_flight": admission.in_flight,
                "queue_depth": admission.queue_depth,
                "max_in_flight": admission.limits.max_in_flight,
                "max_queue_depth": admission.limits.max_queue_depth,
                "rejected_queue_full": admission.rejected_queue_full,
                "rejected_timeout": admission.rejected_timeout,
                "last_used": slot.last_used,
            }
            for slot in self.slots.values()
            if (admission := slot.admission)
        ]

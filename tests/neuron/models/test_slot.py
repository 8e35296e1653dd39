"""A slot's life when engines die and operators change their minds: one engine at a time, and every job ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from helpers.waiting import until

from cortex.config.loader import validate
from cortex.config.neuron import NeuronConfig
from cortex.errors import CortexError
from cortex.neuron.engine.outcome import EngineExit
from cortex.neuron.models.admission import AdmissionLimits
from cortex.neuron.models.jobs import JobRecord
from cortex.neuron.models.registry import Registry
from cortex.neuron.models.slot import Slot
from cortex.tasks import running
from cortex.wire.fleet import LoadRequest, ModelStatus

MODEL = LoadRequest(model_id="m")


class _Mortal:
    """Something loaded whose engine dies when it is told to."""

    def __init__(self) -> None:
        self.engine = self
        self._died = asyncio.Event()

    def die(self) -> None:
        self._died.set()

    async def wait(self) -> EngineExit:
        await self._died.wait()
        return EngineExit(1, None, "ended with exit code 1")


class _Loader:
    """Loads at once, unless `starts` or `ends` says to wait, or `fails` or `keeps` to fail. `alive` is what has not been unloaded."""

    def __init__(self) -> None:
        self.alive: list[_Mortal] = []
        self.most = 0
        self.starts, self.ends = asyncio.Event(), asyncio.Event()
        self.fails: Exception | None = None
        self.keeps: Exception | None = None
        self.starts.set()
        self.ends.set()

    async def load(self, _request: LoadRequest, _job: JobRecord, _enter: Callable[[ModelStatus], None]) -> Any:
        await self.starts.wait()
        if self.fails:
            raise self.fails
        self.alive.append(_Mortal())
        self.most = max(self.most, len(self.alive))
        return self.alive[-1]

    async def unload(self, loaded: Any) -> None:
        await self.ends.wait()
        if self.keeps:
            raise self.keeps
        self.alive.remove(loaded)


@contextlib.asynccontextmanager
async def one_loaded(monkeypatch: Any) -> AsyncIterator[tuple[_Loader, Registry]]:
    """A registry in which MODEL is loaded."""
    loader: Any = _Loader()
    made = Registry(loader, validate(NeuronConfig, {}, source="test"))
    monkeypatch.setattr(made, "_limits_of", lambda *_: AdmissionLimits(4, 4, 60))
    async with made.running() as models:
        await loaded(models)
        yield loader, models


async def loaded(models: Registry) -> None:
    assert not (await models.load(MODEL).wait(30)).error


def test_a_load_that_is_taken_back_while_the_last_engine_still_leaves_makes_room_for_no_second_one(monkeypatch):
    """Unload, load, unload, load, while the first one still answers: the last load begins when the first engine is gone."""

    async def scenario():
        async with one_loaded(monkeypatch) as (loader, models):
            async with models.slots["m"].use(30), running(models.unload("m"), name="first"):
                await until(lambda: models.slots["m"].status is ModelStatus.draining)
                models.load(MODEL)
                async with running(models.unload("m"), name="second") as second:
                    await until(lambda: models.slots["m"].status is ModelStatus.draining)
                    last = models.load(MODEL)
                    assert not (await last.wait(0.05)).finished
                    assert not second.done()
            assert not (await last.wait(30)).error
        assert (loader.most, loader.alive) == (1, [])

    asyncio.run(scenario())


def test_a_clock_that_is_set_a_day_on_ends_no_models_time(monkeypatch):
    """How long a model was idle is not measured by the time of day."""

    async def scenario() -> None:
        async with one_loaded(monkeypatch) as (_loader, models):
            slot = models.slots["m"]
            slot.ttl = 3600
            tomorrow = time.time() + 86400
            monkeypatch.setattr(time, "time", lambda: tomorrow)
            assert not slot.has_outlived_its_ttl()
            slot.ttl = 1e-9
            assert slot.has_outlived_its_ttl()

    asyncio.run(scenario())


def test_a_recovery_that_is_ended_is_a_job_that_has_ended(monkeypatch):
    """Whoever follows the job of a recovery hears of its end when the model is unloaded meanwhile."""

    async def scenario():
        async with one_loaded(monkeypatch) as (loader, models):
            loader.starts.clear()
            loader.alive[0].die()
            await until(lambda: not loader.alive)
            job = models.load(MODEL)
            await models.unload("m")
            assert (await job.wait(30)).finished
            assert job.failure
            assert job.failure.retry_after

    asyncio.run(scenario())


def test_a_recovery_that_breaks_in_an_unknown_way_is_told(monkeypatch):
    """The model is failed, its job has ended, and requests do not wait for it."""

    async def scenario():
        async with one_loaded(monkeypatch) as (loader, models):
            loader.fails = OSError("no such device")
            loader.alive[0].die()
            await until(lambda: models.slots["m"].status is ModelStatus.failed)
            assert models.slots["m"].job.snapshot.finished
            loader.fails = None
            await loaded(models)

    asyncio.run(scenario())


def test_a_dead_engine_that_cannot_be_cleared_away_is_told(monkeypatch):
    """The model is failed, its job has ended, nobody waits for it, and it can be loaded again."""

    async def scenario():
        async with one_loaded(monkeypatch) as (loader, models):
            loader.keeps = OSError("the disk with the socket went away")
            loader.alive[0].die()
            await until(lambda: models.slots["m"].status is ModelStatus.failed)
            loader.keeps = None
            assert models.slots["m"].job.snapshot.finished
            await loaded(models)

    asyncio.run(scenario())


def test_what_a_dead_engine_held_is_given_back_although_the_model_is_unloaded_meanwhile(monkeypatch):
    """An unload that comes while a dead engine is cleared away does not keep its memory promised for ever."""

    async def scenario():
        async with one_loaded(monkeypatch) as (loader, models):
            loader.ends.clear()
            loader.alive[0].die()
            await until(lambda: models.slots["m"].status is ModelStatus.recovering)
            async with running(models.unload("m"), name="unload") as unload:
                await asyncio.wait([unload], timeout=0.05)
                loader.ends.set()
                await unload
            assert loader.alive == []

    asyncio.run(scenario())


def test_a_model_that_failed_keeps_nothing_of_the_requests_that_were_refused(monkeypatch):
    """An error that is kept and raised again and again would keep the frames, and so the bodies, of all who heard it."""

    async def scenario():
        async with one_loaded(monkeypatch) as (loader, models):
            slot = models.slots["m"]
            loader.fails = OSError("no such device")
            loader.alive[0].die()
            await until(lambda: slot.status is ModelStatus.failed)
            assert slot.error
            before = _frames(slot.error)
            for _ in range(20):
                for refused in (lambda: _called(models.slot, "m"), lambda: slot.ready(1), lambda: _entered(slot)):
                    with pytest.raises(CortexError):
                        await refused()
            assert _frames(slot.error) <= before

    asyncio.run(scenario())


async def _called(work: Callable[[str], object], name: str) -> None:
    work(name)


async def _entered(slot: Slot) -> None:
    assert slot.admission
    async with slot.admission.admit():
        pass


def _frames(error: CortexError) -> int:
    return len(list(traceback.walk_tb(error.__traceback__)))

"""A load that breaks leaves nothing behind, and what a model would need is known without a look at the disk."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.gguf_bytes import tiny, write_tiny
from helpers.live import SCRIPTED_MODEL, neuron_config
from helpers.processes import children

from cortex.errors import CortexError
from cortex.neuron.engine.process import EngineProcess
from cortex.neuron.hardware.watch import HardwareWatch
from cortex.neuron.models.jobs import JobRecord, Jobs
from cortex.neuron.models.library import Library
from cortex.neuron.models.loading import Loader
from cortex.wire.fleet import LoadRequest, ModelStatus

REQUEST = LoadRequest(**SCRIPTED_MODEL)


@contextlib.asynccontextmanager
async def loading(models_dir: Path, runtime: Path) -> AsyncIterator[tuple[Loader, JobRecord]]:
    """A loader, and a job for it to write."""
    config = neuron_config(models_dir, state_dir=str(runtime / "state"))
    async with HardwareWatch(None).running() as hardware, Library(config).running() as library:
        yield Loader(config, hardware, library, runtime), Jobs().start(REQUEST.model_id)


def _enter(_status: ModelStatus) -> None:
    """Nobody looks at the stages."""


@pytest.mark.model
@pytest.mark.parametrize("broken", ["nonsense", "left"])
def test_a_load_that_breaks_when_its_engine_is_there_leaves_nothing(broken, models_dir, socket_dir, monkeypatch):
    """An engine that tells nonsense of itself, or a model that is unloaded in this moment: no process, no promise."""
    original = EngineProcess.start

    async def start(*args: Any, **more: Any) -> EngineProcess:
        engine = await original(*args, **more)
        monkeypatch.setattr(engine, "info", None)
        return engine

    async def noting(*args: Any, **more: Any) -> EngineProcess:
        engine = await original(*args, **more)
        engine.info["cpu_backend_problem"] = "as if there were one"
        return engine

    class Job(JobRecord):
        def note(self, text: str) -> None:
            raise asyncio.CancelledError(text)

    async def scenario():
        async with loading(models_dir, socket_dir) as (loader, _):
            if broken == "nonsense":
                monkeypatch.setattr(EngineProcess, "start", start)
            else:
                monkeypatch.setattr(EngineProcess, "start", noting)
            with pytest.raises((AttributeError, asyncio.CancelledError)):
                await loader.load(REQUEST, Job(REQUEST.model_id), _enter)
            assert children() == set()
            assert loader.ledger.free().residents == ()

    asyncio.run(scenario())


@pytest.mark.model
def test_memory_is_given_back_also_when_the_end_of_an_engine_cannot_be_told(models_dir, socket_dir, monkeypatch):
    """Whatever goes wrong while an engine is stopped, its memory is not promised for ever."""

    async def scenario():
        async with loading(models_dir, socket_dir) as (loader, job):
            loaded = await loader.load(REQUEST, job, _enter)
            assert len(loader.ledger.free().residents) == 1

            async def stop() -> None:
                await original()
                raise OSError("its socket is on a disk that has gone")

            original = loaded.engine.stop
            monkeypatch.setattr(loaded.engine, "stop", stop)
            with pytest.raises(OSError, match="has gone"):
                await loader.unload(loaded)
            assert loader.ledger.free().residents == ()

    asyncio.run(scenario())


def _vision(folder: Path) -> None:
    write_tiny(folder / "org" / "vision" / "m-Q4_0.gguf", general__name="m")
    write_tiny(folder / "org" / "vision" / "mmproj-F16.gguf", general__architecture="clip")
    (folder / "draft.gguf").write_bytes(tiny(5 << 20, general__name="d"))


def test_what_goes_with_a_model_is_counted_as_the_scan_measured_it(tmp_path, monkeypatch):
    """Listing models touches no file on the event loop: a folder on a lost server would hold up every health check."""
    _vision(tmp_path)
    here, looked = threading.get_ident(), []
    original = Path.stat

    def stat(path: Path, **more: Any) -> Any:
        if threading.get_ident() == here and path.suffix == ".gguf":
            looked.append(path)
        return original(path, **more)

    async def scenario():
        async with loading(tmp_path, tmp_path) as (loader, _):
            model = next(model for model in loader.library.models if model.mmproj)
            monkeypatch.setattr(Path, "stat", stat)
            alone = loader.planner.forecast(replace(model, mmproj=None, mmproj_bytes=0))
            both = loader.planner.forecast(replace(model, mmproj_bytes=32 << 20))
            assert alone
            assert both
            assert both.estimate_mb - alone.estimate_mb >= 32
            assert looked == []

    asyncio.run(scenario())


def test_a_projector_and_a_draft_are_named_like_models(tmp_path):
    """A name that is not here is refused with those that are: no client has a file opened."""
    _vision(tmp_path)

    async def scenario():
        async with loading(tmp_path, tmp_path) as (loader, job):
            for setting, what in (("mmproj", "mmproj-F16.gguf"), ("draft", "'/etc/passwd'")):
                request = LoadRequest(model_id="org/vision", gpu_layers=0, **{setting: "/etc/passwd"})
                with pytest.raises(CortexError, match=what):
                    await loader.load(request, job, _enter)

    asyncio.run(scenario())

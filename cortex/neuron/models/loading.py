"""How a model comes into memory: find or fetch its file, plan, start its engine, see what it takes.

Decisions are elsewhere (`source.resolve`, `planning`); here is their order, and what is done about them. One `Loader` a
neuron; loads of different models run side by side, and each is promised its memory first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cortex import errors
from cortex.config.neuron import NeuronConfig
from cortex.config.state_dir import state_directory
from cortex.errors import CortexError
from cortex.neuron.engine.process import EngineFailed, EngineProcess
from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.hardware.watch import HardwareWatch
from cortex.neuron.harness import choice
from cortex.neuron.harness.backends import Backends
from cortex.neuron.harness.base import Harness
from cortex.neuron.harness.ctransformers_cuda import NO_CUDA, CudaLibrary
from cortex.neuron.harness.server_binary import ServerBinary
from cortex.neuron.models.estimate import MIB
from cortex.neuron.models.harnesses import ON_PROCESSOR, Harnesses
from cortex.neuron.models.jobs import JobRecord
from cortex.neuron.models.ledger import Ledger, Promise
from cortex.neuron.models.library import Library
from cortex.neuron.models.measured import MeasuredMemory
from cortex.neuron.models.planning import CUDA_CACHE, Plan, Planner
from cortex.neuron.models.source import Hub, LocalModel, NeedsFetch, resolve
from cortex.wire.fleet import JobStage, LoadRequest, ModelStatus

LOAD_SECS_PER_GIB = 20.0  # a slow disk; limits.load_secs comes on top
GIB = 1024**3
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory: its engine, and what was decided for it. It ends through `Loader.unload`."""

    model: LocalModel
    harness: Harness
    spec: EngineSpec
    engine: EngineProcess
    devices: tuple[int, ...]
    capabilities: tuple[str, ...]
    estimate_mb: int
    promise: Promise
    memory_key: str

    @property
    def memory_mb(self) -> int | None:
        """What the engine really holds, MiB: of its GPUs, or of the host. None: nobody tells."""
        return self.promise.measured() if self.promise.measured else None


class Loader:
    """Loads models on one host. `planner` says how a model would be loaded."""

    def __init__(
        self,
        config: NeuronConfig,
        hardware: HardwareWatch,
        library: Library,
        runtime: Path,
        server: ServerBinary | None = None,
        cuda: CudaLibrary = NO_CUDA,
        backends: Backends | None = None,
    ) -> None:
        named = {harness.name for harness in config.harnesses} - {*choice.AUTO}
        known = choice.available(server, cuda, backends)
        served = {name: harness for name, harness in known.items() if not named or name in named}
        self.harnesses = Harnesses(served, hardware)
        self.ledger = Ledger(hardware, limit_mb=config.limits.memory_mb)
        self.hardware = hardware
        self.library = library
        self._load_secs = config.limits.load_secs
        self._hub = Hub.from_environment(config.harness.candle.hf_cache, enabled=config.hub.enabled)
        self._measured = MeasuredMemory(state_directory(config.state_dir))
        self.planner = Planner(config, hardware, library, self.ledger, self._measured, runtime, self.harnesses)

    async def load(self, request: LoadRequest, job: JobRecord, enter: Callable[[ModelStatus], None]) -> Loaded:
        """Raises CortexError; whatever happens, no process and no promise is left behind then."""
        model = await self._find(request, job, enter)
        harness = self.harnesses.chosen(request, model)
        await self.hardware.refresh()
        plan = self.planner.plan(request, model, harness, job.note)
        async with contextlib.AsyncExitStack() as undo:
            before_mb = self.ledger.used_mb(plan.devices)
            promise = self.ledger.promise(
                request.model_id, plan.promised_mb, plan.devices, plan.shares, host_mb=plan.host_mb
            )
            undo.callback(self.ledger.release, promise)
            job.update(stage=JobStage.loading, bytes_done=None, bytes_total=None, eta_seconds=None)
            enter(ModelStatus.loading)
            engine = await self._start_engine(plan.spec, model, job)
            undo.push_async_callback(engine.stop)
            promise.measured = await self._measure(engine, promise, before_mb) if plan.devices else engine.memory_mb
            _note_problems(plan, engine, job)
            undo.pop_all()
        return Loaded(
            model,
            plan.harness,
            plan.spec,
            engine,
            plan.devices,
            plan.capabilities,
            plan.needed_mb,
            promise,
            plan.memory_key,
        )

    async def unload(self, loaded: Loaded) -> None:
        """End the engine; its memory is back when this returns, and what it took is remembered for the next load."""
        held_mb = loaded.memory_mb
        try:
            await loaded.engine.stop()
        finally:
            self.ledger.release(loaded.promise)
        await self.hardware.refresh()  # whoever made room reads it next
        if held_mb is not None:
            await asyncio.to_thread(self._measured.put, loaded.memory_key, held_mb)

    async def _find(self, request: LoadRequest, job: JobRecord, enter: Callable[[ModelStatus], None]) -> LocalModel:
        found = resolve(request.source or request.model_id, request.quant, await self.library.rescan())
        if isinstance(found, NeedsFetch):
            return await self._fetch(found, job, enter)
        for note in found.notes:
            job.note(note)
        return found.model

    async def _fetch(self, wanted: NeedsFetch, job: JobRecord, enter: Callable[[ModelStatus], None]) -> LocalModel:
        enter(ModelStatus.fetching)
        job.update(stage=JobStage.fetching)
        return await self._hub.fetch(
            wanted.repo,
            wanted.quant,
            with_mmproj=True,
            on_progress=job.progress,
            on_stage=lambda stage: job.update(stage=stage),
        )

    async def _start_engine(self, spec: EngineSpec, model: LocalModel, job: JobRecord) -> EngineProcess:
        began = time.time()
        deadline_s = self._load_secs + LOAD_SECS_PER_GIB * model.size_bytes / GIB
        deadline_s += float(spec.extras.get("compile_s", 0))
        if CUDA_CACHE in spec.env:
            await asyncio.to_thread(_make_folder, Path(spec.env[CUDA_CACHE]))
        try:
            return await EngineProcess.start(
                spec,
                deadline_s=deadline_s,
                on_log=lambda line: log.debug("%s: %s", spec.alias, line),
                on_memory=lambda mb: job.progress(min(mb * MIB, model.size_bytes), model.size_bytes, since=began),
            )
        except EngineFailed as failed:
            tail = " | ".join(failed.log_tail[-8:])
            log.warning(
                "loading %s failed (%s): %s", spec.alias, failed.kind, failed.reason, extra={"fields": {"log": tail}}
            )
            raise _as_error(spec.alias, failed) from failed

    async def _measure(
        self, engine: EngineProcess, promise: Promise, before_mb: int | None
    ) -> Callable[[], int | None]:
        """How to see what an engine holds of GPUs: by process, or where the driver does not tell that by what its load took of them.

        The driver is asked once more: from now on its figures count, and no promise.
        """
        await self.hardware.refresh()
        after_mb = self.ledger.used_mb(promise.devices, promise)
        took_mb = (
            after_mb - before_mb if after_mb is not None and before_mb is not None and after_mb > before_mb else None
        )
        return lambda: self.hardware.gpu_mb_by_process.get(engine.pid, took_mb)


def _note_problems(plan: Plan, engine: EngineProcess, job: JobRecord) -> None:
    """What an operator should know of an engine that runs all the same."""
    if plan.devices and not plan.spec.command and not _uses_gpu(engine):
        job.note(f"this build of {plan.harness.name} knows no GPU: the model runs on the processor")
    if problem := engine.info.get("cpu_backend_problem"):
        job.note(problem)
        log.warning("%s: %s", plan.spec.alias, problem)


def _uses_gpu(engine: EngineProcess) -> bool:
    """llama.cpp lists its backends with their features: `CUDA : … | CPU : …`."""
    return any(backend in str(engine.info.get("system")) for backend in ("CUDA", "ROCm", "Vulkan", "SYCL"))


def _make_folder(folder: Path) -> None:
    """A cache that cannot be kept costs time at the next start, and nothing else."""
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _as_error(model_id: str, failed: EngineFailed) -> CortexError:
    """Why an engine did not start, with the status that says who can mend it."""
    text = f"model '{model_id}' could not be loaded: {failed.reason}"
    if failed.kind == "memory":
        return errors.insufficient_vram(text, free_mb=None, required_mb=None)
    if failed.kind == "backend":
        return errors.unavailable(f"{text}; {ON_PROCESSOR}", code="cuda_unavailable", retry_after=30)
    if failed.kind == "timeout":
        return errors.unavailable(text, code="load_timeout", retry_after=30)
    if failed.kind == "model":
        return errors.invalid_request(text, code="unsupported_model", status=422)
    return CortexError(text, status=500, code="engine_failed")

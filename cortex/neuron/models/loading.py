"""How a model comes into memory: find or fetch its file, choose harness, devices and settings, check that it fits, start its engine.

Decisions are pure functions elsewhere (`source.resolve`, `harness`, `fit`, `estimate`); here are their order and what they
need. One `Loader` a neuron; loads of different models run side by side, and each is promised its memory first.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cortex import errors
from cortex.config.neuron import NeuronConfig
from cortex.config.state_dir import state_directory
from cortex.errors import CortexError
from cortex.neuron.engine.process import EngineFailed, EngineProcess
from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.gguf import Header
from cortex.neuron.hardware.watch import HardwareWatch
from cortex.neuron.harness import choice
from cortex.neuron.harness.backends import Backends
from cortex.neuron.harness.base import Harness, HostShare, ModelFiles
from cortex.neuron.harness.ctransformers_cuda import NO_CUDA, CudaLibrary
from cortex.neuron.harness.server_binary import ServerBinary
from cortex.neuron.models import need
from cortex.neuron.models.estimate import MIB, kv_bytes_per_token
from cortex.neuron.models.fit import Memory, refusal
from cortex.neuron.models.jobs import JobRecord
from cortex.neuron.models.ledger import Ledger, Promise
from cortex.neuron.models.library import Library
from cortex.neuron.models.measured import MeasuredMemory, file_key, key_of
from cortex.neuron.models.placing import DeviceChoice, choose_devices, shares
from cortex.neuron.models.source import Hub, LocalModel, NeedsFetch, resolve
from cortex.wire.fleet import JobStage, LoadRequest, ModelStatus

LOAD_SECS_PER_GIB = 20.0  # a slow disk; limits.load_secs comes on top
GIB = 1024**3
_ON_PROCESSOR = "with gpu_layers = 0 the model runs on the processor"
CUDA_CACHE = (
    "CUDA_CACHE_PATH"  # where the driver keeps what it compiled for a GPU, so that only the first start waits for it
)
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


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a model on disk would take of memory, MiB, when it is loaded with `context` tokens, and what it could be asked for.

    measured_mb         what it held when it ran last; None: it never did
    kv_bytes_per_token  what each token more or less of context changes, as f16
    """

    estimate_mb: int
    measured_mb: int | None
    context: int
    kv_bytes_per_token: float
    capabilities: tuple[str, ...]


class Loader:
    """Loads models on one host."""

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
        self.harnesses = {name: harness for name, harness in known.items() if not named or name in named}
        self.ledger = Ledger(hardware, limit_mb=config.limits.memory_mb)
        self.hardware = hardware
        self.library = library
        self._config = config
        self._runtime = runtime
        self._hub = Hub.from_environment(config.harness.candle.hf_cache, enabled=config.hub.enabled)
        state = state_directory(config.state_dir)
        self._measured = MeasuredMemory(state)
        self._kernels = state / "cuda-cache" if state and CUDA_CACHE not in os.environ else None
        self._engine_numbers = itertools.count(1)

    async def load(self, request: LoadRequest, job: JobRecord, enter: Callable[[ModelStatus], None]) -> Loaded:
        """Raises CortexError; whatever happens, no process and no promise is left behind then."""
        model = await self._find(request, job, enter)  # ① the file
        harness = choice.choose(request.harness, model.header, self.harnesses)  # ② who serves it
        await self.hardware.refresh()
        processor_only = self._check_host(request, harness, model.header)
        devices = self._choose_devices(request, harness, processor_only, job)  # ③ where
        unseen = bool(harness.other_gpus) and not devices and request.gpu_layers != 0
        if unseen:
            job.note(f"the memory of {'; '.join(harness.other_gpus)} is not watched: the server takes what it can")
        memory = Memory(None) if unseen else self.ledger.free(devices)
        parts = shares(request.tensor_split, memory.per_device_mb, split_mode=request.split_mode) if devices else ()
        spec = self._spec(request, model, harness, devices, memory, parts)  # ④ with which settings
        key = key_of(model, spec, devices=len(devices), build=harness.version())
        needed_mb = self._measured.get(key) or need.needed_mb(model, spec, len(devices))
        if no := refusal(request.model_id, needed_mb, memory, parts, devices):  # ⑤ whether it fits
            raise no
        capabilities = harness.capabilities(model.header, spec.mode, vision=spec.mmproj is not None)
        before_mb = self.ledger.used_mb(devices)
        promise = self.ledger.promise(request.model_id, 0 if unseen else needed_mb, devices, parts)
        try:
            job.update(stage=JobStage.loading, bytes_done=None, bytes_total=None, eta_seconds=None)
            enter(ModelStatus.loading)
            engine = await self._start_engine(spec, model, job)  # ⑥ the process
        except BaseException:
            self.ledger.release(promise)
            raise
        promise.measured = await self._measure(engine, promise, before_mb) if devices else engine.memory_mb
        if devices and not spec.command and not _uses_gpu(engine):
            job.note(f"this build of {harness.name} knows no GPU: the model runs on the processor")
        if problem := engine.info.get("cpu_backend_problem"):
            job.note(problem)
            log.warning("%s: %s", spec.alias, problem)
        return Loaded(model, harness, spec, engine, devices, capabilities, needed_mb, promise, key)

    async def unload(self, loaded: Loaded) -> None:
        """End the engine; its memory is back when this returns, and what it took is remembered for the next load."""
        held_mb = loaded.memory_mb
        await loaded.engine.stop()
        self.ledger.release(loaded.promise)
        await self.hardware.refresh()  # whoever made room reads it next
        if held_mb is not None:
            await asyncio.to_thread(self._measured.put, loaded.memory_key, held_mb)

    @property
    def gpus_unavailable(self) -> str | None:
        """Why models are not put on this host's GPUs: the first harness's reason, which serves most of them. None: they are, or there are none."""
        nvidia = self.hardware.nvidia
        if reason := self.hardware.unavailable_reason:
            return reason
        first = self._first_on_gpus
        return first.cannot_use(nvidia.devices, nvidia.cuda_version) if first else None

    @property
    def foreign_gpus(self) -> Mapping[int, str]:
        """GPUs that models are not put on, by index, with the reason: the first harness has no code for them."""
        first = self._first_on_gpus
        return first.foreign_gpus(self.hardware.nvidia.devices) if first else {}

    @property
    def _first_on_gpus(self) -> Harness | None:
        return next((each for each in self.harnesses.values() if each.processor_reason() is None), None)

    async def _measure(
        self, engine: EngineProcess, promise: Promise, before_mb: int | None
    ) -> Callable[[], int | None]:
        """How to see what an engine holds of GPUs: by process, or where the driver does not tell that by what its load took of them.

        The driver is asked once more: from now on its figures count, and no promise.
        """
        try:
            await self.hardware.refresh()
        except BaseException:
            self.ledger.release(promise)
            await engine.stop()
            raise
        after_mb = self.ledger.used_mb(promise.devices, promise)
        took_mb = (
            after_mb - before_mb if after_mb is not None and before_mb is not None and after_mb > before_mb else None
        )
        return lambda: self.hardware.gpu_mb_by_process.get(engine.pid, took_mb)

    # ---- ①

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

    # ---- ③ to ⑤

    def _check_host(self, request: LoadRequest, harness: Harness, header: Header) -> str | None:
        """Its engines must be able to run here: no SIGILL, and no processor that stands in silently for a GPU.

        Returns why this model runs on the processor by itself, without a wish for GPU layers.
        """
        if reason := self.hardware.facts.cpu_unsupported_reason:
            raise errors.invalid_request(reason, code="cpu_unsupported", status=422)
        if reason := harness.problem:
            raise errors.invalid_request(reason, code="harness_unusable", status=422)
        if request.gpu_layers == 0:
            return None
        wanted = request.gpu_layers is not None
        reason = harness.processor_reason(header)
        if reason and not wanted:
            return reason
        if not reason and (unavailable := self.hardware.unavailable_reason):
            raise errors.unavailable(f"{unavailable}; {_ON_PROCESSOR}", code="cuda_unavailable", retry_after=30)
        nvidia = self.hardware.nvidia
        if not reason and (nvidia.devices or wanted or harness.backends):
            reason = harness.cannot_use(nvidia.devices, nvidia.cuda_version)
        if reason:
            raise errors.invalid_request(f"{reason}; {_ON_PROCESSOR}", code="cuda_unsupported", status=422)
        return None

    def _choose_devices(
        self, request: LoadRequest, harness: Harness, processor_only: str | None, job: JobRecord
    ) -> tuple[int, ...]:
        chosen: DeviceChoice = choose_devices(
            request.devices,
            required=request.devices_required,
            tensor_parallel=request.tensor_parallel,
            gpus=self.ledger.gpus(harness.foreign_gpus(self.hardware.nvidia.devices)),
            gpu_layers=request.gpu_layers,
            processor_only=processor_only,
        )
        for note in chosen.notes:
            job.note(note)
        return chosen.devices

    def _spec(
        self,
        request: LoadRequest,
        model: LocalModel,
        harness: Harness,
        devices: tuple[int, ...],
        memory: Memory,
        parts: tuple[float, ...] = (),
    ) -> EngineSpec:
        files = self._files(request, model)
        uuids = {gpu.index: gpu.uuid for gpu in self.ledger.gpus()}
        known = [uuid for index in devices if (uuid := uuids.get(index))]
        free = [mb or 0 for mb in memory.per_device_mb]
        host = HostShare(
            cores=self.hardware.facts.cpu_cores,
            devices=devices,
            uuids=tuple(known) if len(known) == len(devices) else (),
            shares=parts,
            other_gpus=bool(harness.other_gpus) and not devices,
            freest=free.index(max(free)) if free else 0,
            memory_free_mb=self.ledger.free().free_mb,  # of what the operator lets models take
            fitting_context=need.fitting_context(request, model, files, memory, on_gpu=bool(devices)),
            max_in_flight=request.max_in_flight or self._config.admission.max_in_flight,
        )
        spec = harness.engine_spec(
            alias=request.model_id,
            files=files,
            header=model.header,
            settings=request,
            host=host,
            socket_path=self._runtime / f"engine-{next(self._engine_numbers)}.sock",
        )
        return replace(spec, env={**spec.env, CUDA_CACHE: str(self._kernels)}) if devices and self._kernels else spec

    def _files(self, request: LoadRequest, model: LocalModel) -> ModelFiles:
        """Projector and draft model are named like models, never by path: no client may have a file opened."""
        draft = self._known(request.draft, "draft").path if request.draft else None
        return ModelFiles(model.path, self._projector(request, model), draft)

    def _projector(self, request: LoadRequest, model: LocalModel) -> Path | None:
        if request.mmproj is None:
            return model.mmproj
        if request.mmproj.lower() == "none":
            return None
        found = next((path for path in self.library.projectors if path.name == request.mmproj), None)
        if found is None:
            names = ", ".join(sorted(path.name for path in self.library.projectors)) or "none"
            raise errors.invalid_request(
                f"there is no projector '{request.mmproj}' on this host; it has: {names}",
                code="no_such_file",
                param="mmproj",
            )
        return found

    def _known(self, model_id: str, field: str) -> LocalModel:
        found = next((model for model in self.library.models if model.id == model_id), None)
        if found is None:
            raise errors.invalid_request(
                f"there is no model '{model_id}' on this host", code="model_not_found", param=field
            )
        return found

    def forecast(self, model: LocalModel) -> Forecast | None:
        """What a model on disk would need, loaded without a wish. None: nothing here serves it."""
        harness = self.harness_for(model)
        if harness is None:
            return None
        spec = self._spec(LoadRequest(model_id=model.id), model, harness, (), Memory(None))
        return Forecast(
            estimate_mb=need.with_cache(need.needed_mb(model, replace(spec, prompt_cache_mb=0))),
            measured_mb=self._measured.latest(file_key(model)),
            context=spec.context,
            kv_bytes_per_token=kv_bytes_per_token(model.header, "f16"),
            capabilities=harness.capabilities(model.header, spec.mode, vision=spec.mmproj is not None),
        )

    # ---- ⑥

    async def _start_engine(self, spec: EngineSpec, model: LocalModel, job: JobRecord) -> EngineProcess:
        began = time.time()
        deadline_s = self._config.limits.load_secs + LOAD_SECS_PER_GIB * model.size_bytes / GIB
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

    def harness_for(self, model: LocalModel) -> Harness | None:
        """Who would serve it without a wish."""
        return next(
            (harness for harness in self.harnesses.values() if harness.cannot_serve(model.header) is None), None
        )


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
        return errors.unavailable(f"{text}; {_ON_PROCESSOR}", code="cuda_unavailable", retry_after=30)
    if failed.kind == "timeout":
        return errors.unavailable(text, code="load_timeout", retry_after=30)
    if failed.kind == "model":
        return errors.invalid_request(text, code="unsupported_model", status=422)
    return CortexError(text, status=500, code="engine_failed")

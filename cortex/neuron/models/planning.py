"""How a model would be loaded on this host now: who serves it, on which devices, with which settings, and whether it fits.

What is read is in memory already: the last scan, the last reading of the hardware, what is promised. Nothing waits here,
and nothing is started or promised, so that between a plan and its promise nothing changes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cortex.config.neuron import NeuronConfig
from cortex.config.state_dir import state_directory
from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.hardware.watch import HardwareWatch
from cortex.neuron.harness.base import Harness, HostShare, ModelFiles
from cortex.neuron.models import need
from cortex.neuron.models.companions import files_of
from cortex.neuron.models.estimate import kv_bytes_per_token
from cortex.neuron.models.fit import Memory, host_refusal, refusal
from cortex.neuron.models.harnesses import Harnesses
from cortex.neuron.models.ledger import Ledger
from cortex.neuron.models.library import Library
from cortex.neuron.models.measured import MeasuredMemory, file_key, key_of
from cortex.neuron.models.placing import DeviceChoice, choose_devices, shares
from cortex.neuron.models.source import LocalModel
from cortex.wire.fleet import LoadRequest

CUDA_CACHE = (
    "CUDA_CACHE_PATH"  # where the driver keeps what it compiled for a GPU, so that only the first start waits for it
)

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """A load that fits.

    shares        which part of it each of `devices` takes
    needed_mb     MiB that its engine is expected to take
    promised_mb   what of that others may not count on; 0 where nobody watches the memory that it takes
    host_mb       what it takes of the host beside its GPUs
    memory_key    under which its memory is remembered
    """

    model: LocalModel
    harness: Harness
    spec: EngineSpec
    devices: tuple[int, ...]
    shares: tuple[float, ...]
    capabilities: tuple[str, ...]
    needed_mb: int
    promised_mb: int
    host_mb: int
    memory_key: str


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


class Planner:
    """Plans of one host."""

    def __init__(
        self,
        config: NeuronConfig,
        hardware: HardwareWatch,
        library: Library,
        ledger: Ledger,
        measured: MeasuredMemory,
        runtime: Path,
        harnesses: Harnesses,
    ) -> None:
        self._harnesses = harnesses
        self._config = config
        self._hardware = hardware
        self._library = library
        self._ledger = ledger
        self._measured = measured
        self._runtime = runtime
        state = state_directory(config.state_dir)
        self._kernels = state / "cuda-cache" if state and CUDA_CACHE not in os.environ else None
        self._engine_numbers = itertools.count(1)

    def plan(self, request: LoadRequest, model: LocalModel, harness: Harness, note: Note) -> Plan:
        """Raises CortexError where it cannot be loaded now. `note` hears what was decided for the caller."""
        processor_only = self._harnesses.check(request, harness, model.header)
        devices = self._choose_devices(request, harness, processor_only, note)
        unseen = bool(harness.other_gpus) and not devices and request.gpu_layers != 0
        if unseen:
            note(f"the memory of {'; '.join(harness.other_gpus)} is not watched: the server takes what it can")
        memory = Memory(None) if unseen else self._ledger.free(devices)
        parts = shares(request.tensor_split, memory.per_device_mb, split_mode=request.split_mode) if devices else ()
        files = files_of(request, model, self._library)
        spec = self._spec(request, model, files, harness, devices, memory, parts)
        key = key_of(model, spec, devices=len(devices), build=harness.version())
        needed_mb = self._measured.get(key) or need.needed_mb(model, files, spec, len(devices))
        if no := refusal(request.model_id, needed_mb, memory, parts, devices):
            raise no
        host_mb = need.host_mb(model, spec) if devices else 0
        if no := host_refusal(request.model_id, host_mb, self._ledger.free().free_mb):
            raise no
        capabilities = harness.capabilities(model.header, spec.mode, vision=spec.mmproj is not None)
        promised_mb = 0 if unseen else needed_mb
        return Plan(model, harness, spec, devices, parts, capabilities, needed_mb, promised_mb, host_mb, key)

    def forecast(self, model: LocalModel) -> Forecast | None:
        """What a model on disk would need, loaded without a wish. None: nothing here serves it."""
        harness = self._harnesses.first_for(model)
        if harness is None:
            return None
        request = LoadRequest(model_id=model.id)
        files = files_of(request, model, self._library)
        spec = self._spec(request, model, files, harness, (), Memory(None))
        return Forecast(
            estimate_mb=need.with_cache(need.needed_mb(model, files, replace(spec, prompt_cache_mb=0))),
            measured_mb=self._measured.latest(file_key(model)),
            context=spec.context,
            kv_bytes_per_token=kv_bytes_per_token(model.header, "f16"),
            capabilities=harness.capabilities(model.header, spec.mode, vision=spec.mmproj is not None),
        )

    def _choose_devices(
        self, request: LoadRequest, harness: Harness, processor_only: str | None, note: Note
    ) -> tuple[int, ...]:
        chosen: DeviceChoice = choose_devices(
            request.devices,
            required=request.devices_required,
            tensor_parallel=request.tensor_parallel,
            gpus=self._ledger.gpus(harness.foreign_gpus(self._hardware.nvidia.devices)),
            gpu_layers=request.gpu_layers,
            processor_only=processor_only,
        )
        for told in chosen.notes:
            note(told)
        return chosen.devices

    def _spec(
        self,
        request: LoadRequest,
        model: LocalModel,
        files: ModelFiles,
        harness: Harness,
        devices: tuple[int, ...],
        memory: Memory,
        parts: tuple[float, ...] = (),
    ) -> EngineSpec:
        uuids = {gpu.index: gpu.uuid for gpu in self._ledger.gpus()}
        known = [uuid for index in devices if (uuid := uuids.get(index))]
        free = [mb or 0 for mb in memory.per_device_mb]
        host = HostShare(
            cores=self._hardware.facts.cpu_cores,
            devices=devices,
            uuids=tuple(known) if len(known) == len(devices) else (),
            shares=parts,
            other_gpus=bool(harness.other_gpus) and not devices,
            freest=free.index(max(free)) if free else 0,
            memory_free_mb=self._ledger.free().free_mb,  # of what the operator lets models take
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

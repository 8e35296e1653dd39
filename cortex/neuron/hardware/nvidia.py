"""GPUs through NVML. The only importer of pynvml; every call may fail by itself, and then its figure is None.

Nothing here may run on the event loop: a hung driver hangs the call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pynvml

from cortex.wire.fleet import Device, DeviceHealth

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class NvidiaFacts:
    """What the driver says once. `unavailable_reason` is None on a host that has GPUs for this build or none at all."""

    devices: tuple[Device, ...] = ()
    driver_version: str | None = None
    cuda_version: str | None = None
    unavailable_reason: str | None = None


class Nvidia:
    """NVML, opened once. `open()` gives None on hosts without the library: those are CPU hosts."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._open = False

    def read_facts(self) -> NvidiaFacts:
        if not self._ensure_open():
            return NvidiaFacts(unavailable_reason=self.reason)
        devices = tuple(_device(index, handle) for index, handle in self._handles())
        return NvidiaFacts(devices, _text(pynvml.nvmlSystemGetDriverVersion), _cuda_version(), None)

    def read_health(self) -> tuple[DeviceHealth, ...]:
        return tuple(_health(index, handle) for index, handle in self._handles()) if self._ensure_open() else ()

    def read_processes(self) -> dict[int, int]:
        """MiB of GPU memory by process id, all devices together. Empty where the driver does not tell (in some containers)."""
        held: dict[int, int] = {}
        for _, handle in self._handles() if self._ensure_open() else ():
            for process in _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or ():
                if process.usedGpuMemory is not None:
                    held[process.pid] = held.get(process.pid, 0) + process.usedGpuMemory // MIB
        return held

    def _ensure_open(self) -> bool:
        if not self._open:
            try:
                pynvml.nvmlInit()
            except pynvml.NVMLError as error:
                absent = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
                self.reason = None if error.value in absent else f"NVML: {error}"
                return False
            self._open = True
        return True

    def _handles(self) -> list[tuple[int, Any]]:
        handles = []
        with contextlib.suppress(pynvml.NVMLError):
            for index in range(pynvml.nvmlDeviceGetCount()):
                with contextlib.suppress(pynvml.NVMLError):  # one lost GPU does not hide the others
                    handles.append((index, pynvml.nvmlDeviceGetHandleByIndex(index)))
        return handles

    def close(self) -> None:
        if self._open:
            self._open = False
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()


def _ask(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except pynvml.NVMLError:
        return None


def _text(call: Callable[..., Any], *arguments: Any) -> str | None:
    answer = _ask(call, *arguments)
    return answer.decode() if isinstance(answer, bytes) else answer


def _cuda_version() -> str | None:
    number = _ask(pynvml.nvmlSystemGetCudaDriverVersion)
    return f"{number // 1000}.{number % 1000 // 10}" if number else None


def _device(index: int, handle: Any) -> Device:
    memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    capability = _ask(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    return Device(
        index=index,
        name=_text(pynvml.nvmlDeviceGetName, handle) or "unknown",
        vram_total_mb=memory.total // MIB if memory else None,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        uuid=_text(pynvml.nvmlDeviceGetUUID, handle),
    )


def _health(index: int, handle: Any) -> DeviceHealth:
    memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    load = _ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
    return DeviceHealth(
        index=index,
        vram_used_mb=memory.used // MIB if memory else None,
        vram_free_mb=memory.free // MIB if memory else None,
        utilization_pct=load.gpu if load else None,
        temp_c=_ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
    )

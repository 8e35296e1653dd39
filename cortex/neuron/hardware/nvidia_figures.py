"""What NVML says of one GPU. Not every card has every sensor: what it does not tell is None, and nothing else is lost by it.

Every function raises `NVMLError` when the card, or the whole session, is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pynvml

from cortex.wire.fleet import Device, DeviceHealth

MIB = 1024 * 1024
# After these nothing more can be had from a handle; any other error is that of one figure.
_GONE = (
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
)
_NO_FIGURE = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
)
_THROTTLES: Mapping[int, str] = {
    pynvml.nvmlClocksEventReasonSwPowerCap: "power cap",
    pynvml.nvmlClocksEventReasonHwSlowdown: "hardware slowdown",
    pynvml.nvmlClocksEventReasonSyncBoost: "sync boost",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "temperature",
    pynvml.nvmlClocksEventReasonHwThermalSlowdown: "temperature (hardware)",
    pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "power brake",
}


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a model can be put on: a card, or an instance of a partitioned one (MIG). `card` has the sensors."""

    device: Device
    handle: Any
    card: Any


def ask(call: Callable[..., Any], *arguments: Any) -> Any:
    """The answer; None when this card has none."""
    try:
        return call(*arguments)
    except pynvml.NVMLError as error:
        if error.value in _GONE:
            raise
        return None


def text(call: Callable[..., Any], *arguments: Any) -> str | None:
    answer = ask(call, *arguments)
    return answer.decode() if isinstance(answer, bytes) else answer


def constants(index: int, handle: Any, card: Any) -> Device:
    """`handle` is the card itself, or an instance of it."""
    memory = _memory(handle)
    capability = ask(pynvml.nvmlDeviceGetCudaComputeCapability, card)
    ecc = ask(pynvml.nvmlDeviceGetEccMode, card)
    persistence = ask(pynvml.nvmlDeviceGetPersistenceMode, card)
    return Device(
        index=index,
        name=text(pynvml.nvmlDeviceGetName, handle) or "unknown",
        vram_total_mb=memory.total // MIB if memory else None,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        uuid=text(pynvml.nvmlDeviceGetUUID, handle),
        part_of=text(pynvml.nvmlDeviceGetUUID, card) if card is not handle else None,
        power_limit_w=_watts(ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, card)),
        ecc=bool(ecc[0]) if ecc else None,
        persistence=None if persistence is None else bool(persistence),
        numa_node=ask(pynvml.nvmlDeviceGetNumaNodeId, card),
    )


def health(gpu: Gpu) -> DeviceHealth:
    memory = _memory(gpu.handle)
    load = ask(pynvml.nvmlDeviceGetUtilizationRates, gpu.handle)
    return DeviceHealth(
        index=gpu.device.index,
        vram_used_mb=memory.used // MIB if memory else None,
        vram_free_mb=memory.free // MIB if memory else None,
        utilization_pct=load.gpu if load else None,
        temp_c=ask(pynvml.nvmlDeviceGetTemperature, gpu.card, pynvml.NVML_TEMPERATURE_GPU),
        power_w=_watts(ask(pynvml.nvmlDeviceGetPowerUsage, gpu.card)),
        sm_clock_mhz=ask(pynvml.nvmlDeviceGetClockInfo, gpu.card, pynvml.NVML_CLOCK_SM),
        memory_clock_mhz=ask(pynvml.nvmlDeviceGetClockInfo, gpu.card, pynvml.NVML_CLOCK_MEM),
        throttled_by=throttles(_reasons(gpu.card)),
        ecc_errors=ask(
            pynvml.nvmlDeviceGetTotalEccErrors,
            gpu.card,
            pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            pynvml.NVML_VOLATILE_ECC,
        ),
    )


def processes(gpu: Gpu) -> dict[int, int]:
    """MiB by process id. Empty where the driver does not tell: without the permission, or in some containers."""
    running = ask(pynvml.nvmlDeviceGetComputeRunningProcesses_v3, gpu.handle)
    if running is None:  # a driver from before 510
        running = ask(pynvml.nvmlDeviceGetComputeRunningProcesses_v2, gpu.handle) or ()
    return {each.pid: each.usedGpuMemory // MIB for each in running if each.usedGpuMemory is not None}


def _reasons(card: Any) -> int | None:
    reasons: int | None = ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons, card)
    if reasons is None:  # a driver from before 535 has them under another name
        reasons = ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, card)
    return reasons


def throttles(reasons: int | None) -> tuple[str, ...]:
    """What slows the card down. An idle card's low clocks, and clocks that somebody set, are none."""
    return tuple(word for bit, word in _THROTTLES.items() if reasons and reasons & bit)


def _memory(handle: Any) -> Any:
    """None on cards that share the host's memory. Any error but "there is no such figure" means that the card is gone."""
    try:
        return pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError as error:
        if error.value in _NO_FIGURE:
            return None
        raise


def _watts(milliwatts: int | None) -> int | None:
    return None if milliwatts is None else round(milliwatts / 1000)

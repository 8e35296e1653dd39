"""The GPUs of this host through NVML: one session with the driver, opened anew whenever something is missing from it.

Nothing here may run on the event loop: a hung driver hangs the call.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pynvml

from cortex.neuron.hardware import nvidia_figures as figures
from cortex.neuron.hardware.nvidia_figures import Gpu
from cortex.wire.fleet import Device, DeviceHealth

_NOTHING_HERE = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
_REASONS = {
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver that runs and its library on disk are of different versions, "
    "as after an update: reboot this host, or reload the driver's modules and restart this neuron",
    pynvml.NVML_ERROR_NO_PERMISSION: "this user may not open the GPUs: give it read and write access to /dev/nvidia*",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver was unloaded",
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "the NVIDIA driver's library is gone",
}


@dataclass(frozen=True, slots=True)
class NvidiaReading:
    """One look at all GPUs. A CPU host's is empty, without a reason.

    devices             what was seen at any time since the start, by index; `health` says which of them are there
    mb_by_process       GPU memory of each process, MiB, all devices together; empty where the driver does not tell
    unavailable_reason  why none of them can be used
    """

    devices: tuple[Device, ...] = ()
    health: tuple[DeviceHealth, ...] = ()
    mb_by_process: Mapping[int, int] = field(default_factory=dict)
    driver_version: str | None = None
    cuda_version: str | None = None
    unavailable_reason: str | None = None


class Nvidia:
    """A device keeps its index for the life of this object, by its UUID, whatever the driver counts after a reload."""

    def __init__(self) -> None:
        self._is_open = False
        self._known: dict[int, Device] = {}

    def read(self) -> NvidiaReading:
        was_open = self._is_open
        try:
            reading = self._read()
        except pynvml.NVMLError as error:
            self.close()
            return self.read() if was_open else self._without_driver(error)
        if any(device.problem for device in reading.health):
            self.close()  # a new session may find what is missing
            return self.read() if was_open else reading
        return reading

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def _read(self) -> NvidiaReading:
        if not self._is_open:
            pynvml.nvmlInit()
            self._is_open = True
        troubles: list[str] = []
        gpus = [self._remembered(gpu) for gpu in _enumerate(troubles)]
        self._forget_instances({gpu.device.index for gpu in gpus})
        missing = troubles[-1] if troubles else "not found"
        health = {index: DeviceHealth(index=index, problem=missing) for index in self._known}
        held: dict[int, int] = {}
        for gpu in gpus:
            try:
                health[gpu.device.index] = figures.health(gpu)
                for pid, mb in figures.processes(gpu).items():
                    held[pid] = held.get(pid, 0) + mb
            except pynvml.NVMLError as error:
                health[gpu.device.index] = DeviceHealth(index=gpu.device.index, problem=str(error))
        return NvidiaReading(
            devices=self._devices,
            health=tuple(health[index] for index in sorted(health)),
            mb_by_process=held,
            driver_version=figures.text(pynvml.nvmlSystemGetDriverVersion),
            cuda_version=_cuda_version(),
        )

    def _without_driver(self, error: pynvml.NVMLError) -> NvidiaReading:
        if error.value in _NOTHING_HERE and not self._known:
            return NvidiaReading()
        return NvidiaReading(
            devices=self._devices,
            health=tuple(DeviceHealth(index=index, problem=str(error)) for index in sorted(self._known)),
            unavailable_reason=_REASONS.get(error.value, f"NVML: {error}"),
        )

    @property
    def _devices(self) -> tuple[Device, ...]:
        return tuple(self._known[index] for index in sorted(self._known))

    def _remembered(self, gpu: Gpu) -> Gpu:
        """The same device with the index that it always had here."""
        index = next((i for i, known in self._known.items() if known.uuid == gpu.device.uuid), None)
        if index is None:
            index = next(i for i in itertools.count(gpu.device.index) if i not in self._known)
        device = gpu.device.model_copy(update={"index": index})
        self._known[index] = device
        return dataclasses.replace(gpu, device=device)

    def _forget_instances(self, here: set[int]) -> None:
        """Instances come and go as their card is partitioned; a card that is missing is missed."""
        for index in [i for i, device in self._known.items() if device.part_of and i not in here]:
            del self._known[index]


def _enumerate(troubles: list[str]) -> Iterator[Gpu]:
    """Every device as the driver counts them; a card that does not even open hides no other, and keeps its number free."""
    index = 0
    for number in range(pynvml.nvmlDeviceGetCount()):
        try:
            card = pynvml.nvmlDeviceGetHandleByIndex(number)
            gpus = [
                Gpu(figures.constants(index + place, handle, card), handle, card)
                for place, handle in enumerate(_instances(card) if _is_partitioned(card) else [card])
            ]
        except pynvml.NVMLError as error:
            troubles.append(str(error))
            gpus = []
        yield from gpus
        index += max(1, len(gpus))


def _is_partitioned(card: Any) -> bool:
    """A card in MIG mode cannot be used as a whole; without instances it cannot be used at all."""
    mode = figures.ask(pynvml.nvmlDeviceGetMigMode, card)
    return bool(mode and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE)


def _instances(card: Any) -> Iterator[Any]:
    for number in range(figures.ask(pynvml.nvmlDeviceGetMaxMigDeviceCount, card) or 0):
        if (handle := figures.ask(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, card, number)) is not None:
            yield handle


def _cuda_version() -> str | None:
    number = figures.ask(pynvml.nvmlSystemGetCudaDriverVersion)
    return f"{number // 1000}.{number % 1000 // 10}" if number else None

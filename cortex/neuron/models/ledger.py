"""Who holds or was promised how much memory of this host, so that two loads never count on the same bytes.

Without GPUs, host memory is the device. Figures in MiB; what the host does not tell is None, and refuses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cortex.neuron.hardware.watch import HardwareWatch
from cortex.neuron.models.fit import Memory, Resident
from cortex.neuron.models.placing import Room


@dataclass(slots=True, eq=False)
class Promise:
    """Memory of one model. While it loads, `needed_mb` counts; once its engine runs, what it really holds (`measured`).

    shares   which part of it each of `devices` takes; none: equal ones
    host_mb  what a model on devices takes of the host beside them
    """

    model_id: str
    needed_mb: int
    devices: tuple[int, ...]
    shares: tuple[float, ...] = ()
    host_mb: int = 0
    measured: Callable[[], int | None] | None = None

    @property
    def held_mb(self) -> int:
        return (self.measured() if self.measured else None) or self.needed_mb

    @property
    def pending_mb(self) -> int:
        """Promised, and not yet visible in what the host says is free."""
        return 0 if self.measured else self.needed_mb

    @property
    def held_on_host_mb(self) -> int:
        return self.host_mb if self.devices else self.held_mb

    @property
    def pending_on_host_mb(self) -> int:
        if not self.devices:
            return self.pending_mb
        return 0 if self.measured else self.host_mb

    def pending_on(self, device: int) -> int:
        """The part of it that is promised of one GPU."""
        if device not in self.devices:
            return 0
        parts = self.shares or (1 / len(self.devices),) * len(self.devices)
        return math.ceil(self.pending_mb * parts[self.devices.index(device)])


class Ledger:
    """The promises of one neuron. Its only writer is the loader."""

    def __init__(self, hardware: HardwareWatch, *, limit_mb: int | None) -> None:
        self._hardware = hardware
        self._promises: list[Promise] = []
        self.limit_mb = limit_mb  # what the operator lets models take of a host without GPUs

    def promise(
        self,
        model_id: str,
        needed_mb: int,
        devices: tuple[int, ...],
        shares: tuple[float, ...] = (),
        *,
        host_mb: int = 0,
    ) -> Promise:
        promise = Promise(model_id, needed_mb, devices, shares, host_mb)
        self._promises.append(promise)
        return promise

    def release(self, promise: Promise) -> None:
        """Give it back; a second time is harmless."""
        if promise in self._promises:
            self._promises.remove(promise)

    def free(self, devices: tuple[int, ...] = ()) -> Memory:
        """What a load could take on these devices, together; with none, of host memory."""
        residents = tuple(
            Resident(held.model_id, held.held_mb, busy=False)
            for held in self._promises
            if set(held.devices) & set(devices) or (not devices and not held.devices)
        )
        if not devices:
            return Memory(self._host_free_mb(), (), residents)
        each = tuple(self._device_free_mb(index) for index in devices)
        known = [mb for mb in each if mb is not None]
        return Memory(sum(known) if len(known) == len(each) else None, each, residents)

    def gpus(self, foreign: Mapping[int, str] | None = None) -> tuple[Room, ...]:
        """The GPUs of this host, with what a load could take of each. `foreign`: those that its engine has no code for, and why."""
        problems = {device.index: device.problem for device in self._hardware.devices}
        return tuple(
            Room(
                index=device.index,
                free_mb=self._device_free_mb(device.index),
                uuid=device.uuid,
                problem=problems.get(device.index),
                foreign=(foreign or {}).get(device.index),
                is_part=device.part_of is not None,
            )
            for device in self._hardware.nvidia.devices
        )

    def used_mb(self, devices: tuple[int, ...], own: Promise | None = None) -> int | None:
        """What is in use on these GPUs, by whomever; None where the driver does not tell, or while a load other than one's own changes it."""
        loading = [promise for promise in self._promises if not promise.measured and promise is not own]
        if any(set(promise.devices) & set(devices) for promise in loading):
            return None
        used = [device.vram_used_mb for device in self._hardware.devices if device.index in devices]
        return sum(mb for mb in used if mb is not None) if used and None not in used else None

    def _host_free_mb(self) -> int | None:
        free = self._hardware.memory_free_mb
        if free is not None:
            free -= sum(promise.pending_on_host_mb for promise in self._promises)
        # Weights are mapped from their files, and the kernel counts their pages as available, although engines use them.
        most = self.limit_mb or self._hardware.facts.memory_total_mb
        left = None if most is None else most - sum(promise.held_on_host_mb for promise in self._promises)
        known = [mb for mb in (free, left) if mb is not None]
        return min(known) if known else None

    def _device_free_mb(self, index: int) -> int | None:
        free = next((device.vram_free_mb for device in self._hardware.devices if device.index == index), None)
        if free is None:
            return None
        return free - sum(promise.pending_on(index) for promise in self._promises)

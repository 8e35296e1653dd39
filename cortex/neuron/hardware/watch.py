"""The last reading of the hardware. Its probes run in threads of their own: a driver that hangs leaves an old reading, not a dead neuron."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from cortex.neuron.hardware import host, others
from cortex.neuron.hardware.host import HostFacts
from cortex.neuron.hardware.nvidia import Nvidia, NvidiaReading
from cortex.neuron.hardware.probe import Probe
from cortex.tasks import Tasks
from cortex.wire.fleet import DeviceHealth

REFRESH_S = 5.0
FIRST_READING_S = 10.0  # a driver that is slower than this at start is read later
SILENT_S = 30.0  # after so long without an answer nothing is begun on its GPUs
log = logging.getLogger(__name__)


class HardwareWatch:
    """Facts once, figures every 5 s. Reading the attributes costs nothing and never waits.

    nvidia           the last reading of the GPUs, `nvidia_age_s` old
    memory_free_mb   of this host, fresh whatever the driver does
    """

    def __init__(self, disk: Path | None) -> None:
        self.facts: HostFacts = host.read_facts()
        self.nvidia = NvidiaReading()
        self.other_gpus = others.gpus()
        self.memory_free_mb = host.memory_free_mb()
        self.disk_free_mb: int | None = None
        self._disk = disk
        self._nvml = Nvidia()
        self._gpus = Probe("nvml", self._read_gpus)
        self._host = Probe("host", self._read_host)
        self._told: dict[str, str] = {}

    @property
    def devices(self) -> tuple[DeviceHealth, ...]:
        return self.nvidia.health

    @property
    def gpu_mb_by_process(self) -> Mapping[int, int]:
        return self.nvidia.mb_by_process

    @property
    def nvidia_age_s(self) -> float | None:
        """How old the reading of the GPUs is; None before the first one."""
        return self._gpus.age_s

    @property
    def unavailable_reason(self) -> str | None:
        """Why the driver's GPUs cannot be used now; None on a host that has none, or whose driver works."""
        if (silent_s := self._gpus.running_s) > SILENT_S:
            return (
                f"the NVIDIA driver has not answered for {silent_s:.0f} s: see the kernel's log; a reboot may be needed"
            )
        if self.nvidia_age_s is None and silent_s:
            return "the NVIDIA driver has not answered yet"
        return self.nvidia.unavailable_reason

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[HardwareWatch]:
        tasks = Tasks("hardware")
        await self.refresh(within_s=FIRST_READING_S)
        tasks.start("refresh", self._refresh_for_ever())
        try:
            yield self
        finally:
            await tasks.aclose()

    async def refresh(self, within_s: float | None = None) -> None:
        """Figures of now. A probe that is known to hang is not waited for; the old reading stays."""
        within_s = within_s or REFRESH_S
        hangs = self._gpus.running_s > within_s
        gpus, here = self._gpus.ask(), self._host.ask()
        await asyncio.wait([here] if hangs else [gpus, here], timeout=within_s)
        self._tell("the GPU driver", gpus)
        self._tell("the probe of this host", here)

    def _tell(self, who: str, reading: asyncio.Future[None]) -> None:
        """A line of the log when something changes for the worse, not one for every reading."""
        trouble = "does not answer" if not reading.done() else str(reading.exception() or "")
        if trouble and trouble != self._told.get(who):
            log.warning("%s: %s; the last reading stays in force", who, trouble)
        self._told[who] = trouble

    async def _refresh_for_ever(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            await self.refresh()

    def _read_gpus(self) -> None:
        reading = self._nvml.read()
        if reading.unavailable_reason and reading.unavailable_reason != self.nvidia.unavailable_reason:
            log.warning("the GPUs of this host are not used: %s", reading.unavailable_reason)
        self.nvidia = reading

    def _read_host(self) -> None:
        self.memory_free_mb = host.memory_free_mb()
        self.disk_free_mb = host.disk_free_mb(self._disk) if self._disk else None

"""The last reading of the hardware. Probes run in one thread of their own, so that a driver that hangs leaves an old reading, not a dead neuron."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cortex.neuron.hardware import host, support
from cortex.neuron.hardware.host import HostFacts
from cortex.neuron.hardware.nvidia import Nvidia, NvidiaFacts
from cortex.tasks import Tasks
from cortex.wire.fleet import DeviceHealth

REFRESH_S = 5.0
FIRST_READING_S = 10.0  # a driver that is slower than this at start is read later
log = logging.getLogger(__name__)


class HardwareWatch:
    """Facts once, health every 5 s. Reading the attributes costs nothing and never waits."""

    def __init__(self, disk: Path | None) -> None:
        self.facts: HostFacts = host.read_facts()
        self.nvidia = NvidiaFacts()
        self.devices: tuple[DeviceHealth, ...] = ()
        self.gpu_mb_by_process: Mapping[int, int] = {}
        self.memory_free_mb = host.memory_free_mb()
        self.disk_free_mb: int | None = None
        self._disk = disk
        self._nvml = Nvidia()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hardware")
        self._probing: asyncio.Future[None] | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[HardwareWatch]:
        tasks = Tasks("hardware")
        await self.refresh(within_s=FIRST_READING_S)
        tasks.start("refresh", self._refresh_for_ever())
        try:
            yield self
        finally:
            await tasks.aclose()
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def refresh(self, within_s: float = REFRESH_S) -> None:
        """Read now. One probe runs at a time; when it hangs, the old reading stays and nothing piles up behind it."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.get_running_loop().run_in_executor(self._thread, self._probe)
        probing = self._probing  # by the time that it is done somebody else may have begun the next one
        done, _ = await asyncio.wait([probing], timeout=within_s)
        if not done:
            log.warning("the hardware probe hangs; the last reading stays in force")
        elif (error := probing.exception()) is not None:
            log.warning("the hardware probe failed: %s", error)

    async def _refresh_for_ever(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            await self.refresh()

    def _probe(self) -> None:
        if not self.nvidia.devices:
            self.nvidia = _with_our_side(self._nvml.read_facts())
        self.devices = self._nvml.read_health()
        self.gpu_mb_by_process = self._nvml.read_processes() if self.devices else {}
        self.memory_free_mb = host.memory_free_mb()
        self.disk_free_mb = host.disk_free_mb(self._disk) if self._disk else None


def _with_our_side(nvidia: NvidiaFacts) -> NvidiaFacts:
    """GPUs that work may still be of no use to the engines of this build."""
    if not nvidia.devices or not (reason := support.cuda_reason(nvidia.devices, support.engine_flavour())):
        return nvidia
    log.warning("the GPUs of this host are not used: %s", reason)
    return dataclasses.replace(nvidia, unavailable_reason=reason)

"""GPU memory by process, as NVML tells it. Its library is stood in for: these are figures, and no GPU is needed for them."""

from types import SimpleNamespace

import pynvml
import pytest

from cortex.neuron.hardware.nvidia import MIB, Nvidia
from cortex.neuron.hardware.watch import HardwareWatch
from cortex.neuron.models.ledger import Ledger
from cortex.wire.fleet import DeviceHealth


@pytest.fixture
def two_gpus(monkeypatch):
    """A process on both of them, one on the second, and one of which the driver does not tell."""
    running: dict[int, list[tuple[int, int | None]]] = {
        0: [(10, 300 * MIB)],
        1: [(10, 200 * MIB), (11, 50 * MIB), (12, None)],
    }
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 3)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)

    def processes(handle):
        if handle not in running:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in running[handle]]

    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", processes)


@pytest.mark.usefixtures("two_gpus")
def test_the_memory_of_a_process_is_that_on_all_its_gpus():
    """What one lost device or one silent driver does not tell hides nothing else."""
    assert Nvidia().read_processes() == {10: 500, 11: 50}


def test_a_loaded_model_is_not_counted_twice():
    """While it loads its memory is promised; from then on the driver shows it, and the free figure is the driver's."""
    hardware = HardwareWatch(None)
    hardware.devices = (DeviceHealth(index=0, vram_free_mb=1000),)
    ledger = Ledger(hardware, limit_mb=None)
    promise = ledger.promise("m", 400, (0,))
    assert ledger.free((0,)).free_mb == 600
    hardware.devices = (DeviceHealth(index=0, vram_free_mb=590),)
    promise.measured = lambda: None  # its driver does not tell by process
    assert ledger.free((0,)).free_mb == 590
    assert promise.held_mb == 400

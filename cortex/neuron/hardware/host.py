"""Memory, processor and operating system, as far as this process may use them (limits of its control groups count)."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from cortex.neuron.hardware import cgroup, processor, support

MIB = 1024 * 1024
_NODES = Path("/sys/devices/system/node")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Constant facts. Memory in MiB; None is "could not be found out".

    cpu_flags                what the processor can do, as /proc/cpuinfo has it; empty where it is no x86
    cpu_unsupported_reason   why engines cannot run on this processor; None: they can
    """

    hostname: str
    os: str
    kernel: str
    cpu_model: str | None
    cpu_cores: int
    memory_total_mb: int | None
    numa_nodes: int | None = None
    cpu_flags: frozenset[str] = frozenset()
    cpu_unsupported_reason: str | None = None


def read_facts() -> HostFacts:
    name, cpuinfo = os.uname(), _text(_PROC / "cpuinfo") or ""
    return HostFacts(
        hostname=name.nodename,
        os=name.sysname,
        kernel=name.release,
        cpu_model=_cpu_model(),
        cpu_cores=usable_cores(),
        memory_total_mb=memory_total_mb(),
        numa_nodes=numa_nodes(),
        cpu_flags=processor.flags(cpuinfo),
        cpu_unsupported_reason=support.cpu_reason(cpuinfo),
    )


def _cpu_model() -> str | None:
    for line in _lines(_PROC / "cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or None


def usable_cores() -> int:
    """Physical cores that this process may use: affinity, hyper-threads and the cgroup's CPU quota count. At least 1."""
    allowed = os.sched_getaffinity(0)
    siblings = {
        _text(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")) or str(cpu) for cpu in allowed
    }
    return max(1, min(len(siblings), cgroup.read_limits().cores or len(siblings)))


def memory_total_mb() -> int | None:
    total, limit = _meminfo("MemTotal"), cgroup.read_limits().memory_mb
    return min(total, limit) if total and limit else total or limit


def memory_free_mb() -> int | None:
    """What a new process could take: available memory of the host, or what is left of the cgroup if that is less."""
    available, left = _meminfo("MemAvailable"), cgroup.read_limits().memory_left_mb
    return min(available, left) if available is not None and left is not None else available


def numa_nodes() -> int | None:
    """Banks of memory, each near to some of the cores; None: the kernel does not tell."""
    return len(list(_NODES.glob("node[0-9]*"))) or None


def _meminfo(key: str) -> int | None:
    for line in _lines(_PROC / "meminfo"):
        if line.startswith(key + ":"):
            return int(line.split()[1]) // 1024
    return None


def disk_free_mb(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free // MIB
    except OSError:
        return None


def _text(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None


def _lines(file: Path) -> list[str]:
    return (_text(file) or "").splitlines()

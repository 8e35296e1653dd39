"""Memory, processor and operating system, as far as this process may use them (cgroup v2 and v1 limits count)."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from cortex.neuron.hardware import support

MIB = 1024 * 1024
_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Constant facts. Memory in MiB; None is "could not be found out".

    cpu_unsupported_reason   why engines cannot run on this processor; None: they can
    """

    hostname: str
    os: str
    kernel: str
    cpu_model: str | None
    cpu_cores: int
    memory_total_mb: int | None
    cpu_unsupported_reason: str | None = None


def read_facts() -> HostFacts:
    name = os.uname()
    return HostFacts(
        hostname=name.nodename,
        os=name.sysname,
        kernel=name.release,
        cpu_model=_cpu_model(),
        cpu_cores=usable_cores(),
        memory_total_mb=memory_total_mb(),
        cpu_unsupported_reason=support.cpu_reason(_text(_PROC / "cpuinfo") or ""),
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
    return max(1, min(len(siblings), _quota_cores() or len(siblings)))


def _quota_cores() -> int | None:
    quota, _, period = (_text(_CGROUP / "cpu.max") or "").partition(" ")
    return max(1, int(quota) // int(period)) if quota.isdigit() and period.isdigit() else None


def memory_total_mb() -> int | None:
    total, limit = _meminfo("MemTotal"), _cgroup_limit_mb()
    return min(total, limit) if total and limit else total or limit


def memory_free_mb() -> int | None:
    """What a new process could take: available memory of the host, or what is left of the cgroup if that is less."""
    available, limit, used = _meminfo("MemAvailable"), _cgroup_limit_mb(), _cgroup_used_mb()
    left = limit - used if limit and used is not None else None
    return min(available, left) if available is not None and left is not None else available


def _cgroup_limit_mb() -> int | None:
    for file in (_CGROUP / "memory.max", _CGROUP / "memory/memory.limit_in_bytes"):
        text = _text(file)
        if text and text.isdigit() and int(text) < 1 << 50:  # v1 writes an enormous number for "no limit"
            return int(text) // MIB
    return None


def _cgroup_used_mb() -> int | None:
    """Used memory without the page cache, which the kernel gives back when it is needed."""
    used = _text(_CGROUP / "memory.current")
    cached = next(
        (int(line.split()[1]) for line in _lines(_CGROUP / "memory.stat") if line.startswith("inactive_file ")), 0
    )
    return max(0, int(used) - cached) // MIB if used and used.isdigit() else None


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

"""What the control groups of this process let it take: its own, and every one above it (a unit in a slice in a container)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_NO_LIMIT = 1 << 50  # version 1 writes an enormous number for "no limit"


@dataclass(frozen=True, slots=True)
class Limits:
    """The tightest of all levels; None: no limit.

    memory_mb       MiB
    memory_left_mb  what may still be taken, MiB; page cache, which the kernel gives back when it is needed, is not used
    cores           whole cores of the CPU quota, at least 1
    """

    memory_mb: int | None = None
    memory_left_mb: int | None = None
    cores: int | None = None


def read_limits(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> Limits:
    """`root` is where the groups are mounted, `membership` a file like /proc/self/cgroup."""
    groups = _groups(membership)
    if "" in groups and (root / "cgroup.controllers").exists():
        memory = [_memory_v2(level) for level in _levels(root, groups[""])]
        cores = [_quota(*_two(_text(level / "cpu.max"))) for level in _levels(root, groups[""])]
    else:
        memory = [_memory_v1(level) for level in _levels(root / "memory", groups.get("memory", "/"))]
        cores = [
            _quota(_text(level / "cpu.cfs_quota_us"), _text(level / "cpu.cfs_period_us"))
            for level in _levels(root / "cpu", groups.get("cpu", "/"))
        ]
    return Limits(_least(limit for limit, _ in memory), _least(left for _, left in memory), _least(cores))


def _groups(membership: Path) -> dict[str, str]:
    """Path by controller, from lines such as `0::/system.slice/x.service` (version 2) and `4:cpu,cpuacct:/x` (version 1)."""
    found: dict[str, str] = {}
    for line in (_text(membership) or "").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        found |= dict.fromkeys(controllers.split(","), path)
    return found


def _levels(root: Path, path: str) -> Iterator[Path]:
    """The group and all above it. In a container the path may be the host's: then what is mounted is the group itself."""
    group = root / path.lstrip("/")
    while group != root and root in group.parents:
        if group.is_dir():
            yield group
        group = group.parent
    yield root


def _memory_v2(group: Path) -> tuple[int | None, int | None]:
    return _memory(
        _number(group / "memory.max"), _number(group / "memory.current"), _stat(group / "memory.stat", "inactive_file")
    )


def _memory_v1(group: Path) -> tuple[int | None, int | None]:
    return _memory(
        _number(group / "memory.limit_in_bytes"),
        _number(group / "memory.usage_in_bytes"),
        _stat(group / "memory.stat", "total_inactive_file"),
    )


def _memory(limit: int | None, used: int | None, cached: int) -> tuple[int | None, int | None]:
    if limit is None or limit >= _NO_LIMIT:
        return None, None
    left = None if used is None else max(0, limit - max(0, used - cached)) // MIB
    return limit // MIB, left


def _quota(quota: str | None, period: str | None) -> int | None:
    if not (quota and period and quota.isdigit() and period.isdigit() and int(period)):
        return None
    return max(1, int(quota) // int(period))


def _two(text: str | None) -> tuple[str | None, str | None]:
    quota, _, period = (text or "").partition(" ")
    return quota, period


def _stat(file: Path, key: str) -> int:
    lines = (line.split() for line in (_text(file) or "").splitlines())
    return next((int(words[1]) for words in lines if len(words) == 2 and words[0] == key and words[1].isdigit()), 0)


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text and text.isdigit() else None


def _text(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None


def _least(figures: Iterator[int | None] | list[int | None]) -> int | None:
    return min((figure for figure in figures if figure is not None), default=None)

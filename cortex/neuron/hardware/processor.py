"""What the processor can do, in the kernel's words. No other import: the command line asks as well."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def flags(cpuinfo: str) -> frozenset[str]:
    """`cpuinfo` is the text of /proc/cpuinfo; empty where it is no x86."""
    lines = (line for line in cpuinfo.splitlines() if line.startswith("flags"))
    return frozenset(next(lines, "").partition(":")[2].split())


def read_flags() -> frozenset[str]:
    """Of this host; empty where the kernel does not tell."""
    try:
        return flags(CPUINFO.read_text())
    except OSError:
        return frozenset()

"""Which glibc and which libstdc++ the program needs: the highest symbol version that any of its files asks for."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Version = tuple[int, ...]
GLIBC = (2, 28)  # RHEL 8, Debian 10, Ubuntu 20.04 and everything later
LIBSTDCXX = (3, 4, 25)  # that of the oldest of them, as GCC 8 has it
_SYMBOL = re.compile(r"\(?(GLIBC|GLIBCXX)_([\d.]+)\)?\s+(\S+)$")


def needed(folder: Path, family: str = "GLIBC") -> dict[str, dict[Version, set[str]]]:
    """`{file: {version: symbols}}` of every ELF file below `folder`."""
    return {str(file.relative_to(folder)): versions(file, family) for file in elf_files(folder)}


def versions(file: Path, family: str = "GLIBC") -> dict[Version, set[str]]:
    """`family` is GLIBC, or GLIBCXX for libstdc++'s."""
    found: dict[Version, set[str]] = {}
    table = subprocess.run(["objdump", "-T", file], capture_output=True, text=True, check=True).stdout
    for line in table.splitlines():
        if "*UND*" in line and (match := _SYMBOL.search(line)) and match[1] == family:
            found.setdefault(parse(match[2]), set()).add(match[3])
    return found


def highest(folder: Path, family: str = "GLIBC") -> Version:
    return max((version for file in needed(folder, family).values() for version in file), default=(0,))


def describe(folder: Path, above: Version, family: str = "GLIBC") -> list[str]:
    """One line for each file that needs more than `above`: what it is that needs it."""
    lines = []
    for file, found in needed(folder, family).items():
        beyond = {version: symbols for version, symbols in found.items() if version > above}
        if beyond:
            told = "; ".join(
                f"{text(version)}: {', '.join(sorted(symbols)[:6])}{' …' if len(symbols) > 6 else ''}"
                for version, symbols in sorted(beyond.items())
            )
            lines.append(f"{file}: {told}")
    return lines


def exceeded(made: Mapping[str, Any], limit: Version) -> str | None:
    """What a program needs beyond a host with the glibc `limit`, in words; `made` is what build/compile told of it."""
    if parse(made["glibc"]) > limit:
        return f"glibc {made['glibc']}, and hosts have {text(limit)}"
    if limit <= GLIBC and parse(made["libstdcxx"]) > LIBSTDCXX:
        return f"libstdc++'s symbols {made['libstdcxx']}, and hosts with glibc {text(limit)} have {text(LIBSTDCXX)}"
    return None


def parse(text: str) -> Version:
    return tuple(map(int, text.split(".")))


def text(version: Version) -> str:
    return ".".join(map(str, version))


def elf_files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if _is_elf(file)]


def _is_elf(file: Path) -> bool:
    if not file.is_file() or file.is_symlink():
        return False
    with file.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"

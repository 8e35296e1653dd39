"""Which glibc the program needs: the highest symbol version that any of its files asks for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

Version = tuple[int, ...]
_SYMBOL = re.compile(r"\(?GLIBC_([\d.]+)\)?\s+(\S+)$")


def needed(folder: Path) -> dict[str, dict[Version, set[str]]]:
    """`{file: {version: symbols}}` of every ELF file below `folder`."""
    return {str(file.relative_to(folder)): versions(file) for file in elf_files(folder)}


def versions(file: Path) -> dict[Version, set[str]]:
    found: dict[Version, set[str]] = {}
    table = subprocess.run(["objdump", "-T", file], capture_output=True, text=True, check=True).stdout
    for line in table.splitlines():
        if "*UND*" in line and (match := _SYMBOL.search(line)):
            found.setdefault(parse(match[1]), set()).add(match[2])
    return found


def highest(folder: Path) -> Version:
    return max((version for file in needed(folder).values() for version in file), default=(0,))


def describe(folder: Path, above: Version) -> list[str]:
    """One line for each file that needs more than `above`: what it is that needs it."""
    lines = []
    for file, found in needed(folder).items():
        beyond = {version: symbols for version, symbols in found.items() if version > above}
        if beyond:
            told = "; ".join(
                f"{text(version)}: {', '.join(sorted(symbols)[:6])}{' …' if len(symbols) > 6 else ''}"
                for version, symbols in sorted(beyond.items())
            )
            lines.append(f"{file}: {told}")
    return lines


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

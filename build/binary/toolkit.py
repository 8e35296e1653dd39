"""NVIDIA's CUDA toolkit: where it is, what CMake has to be told of it, and its libraries.

A toolkit may be nvcc alone: cuBLAS comes from the package index then.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from binary import tools
from binary.flavours import Refused
from binary.tools import WORK, Missing

USUAL = Path("/usr/local/cuda/bin/nvcc")
SYSTEM = (Path("/usr/lib"), Path("/usr/lib64"))
# The C library's, the compiler's and the driver's are the host's; what else CUDA's libraries need travels with them.
NVIDIA = re.compile(r"lib(cudart|cublas|cublasLt)\.so")
_NEEDED = re.compile(r"\(NEEDED\).*\[(.+)\]")


@dataclass(frozen=True, slots=True)
class Toolkit:
    """`release` as "13.0"; `index` is the folder of the package index's libraries, None where the toolkit has its own."""

    nvcc: Path
    root: Path
    release: str
    index: Path | None

    @property
    def has_driver_stub(self) -> bool:
        return _find(self.root, "libcuda.so") is not None

    def environment(self) -> dict[str, str]:
        """For CMake and the compilers. CMake takes CUDACXX the first time, and keeps what it then knows."""
        told = os.environ | {"CUDACXX": str(self.nvcc)}
        if self.index is None:
            return told
        headers = str(self.index.parent / "include")
        searched = os.pathsep.join(filter(None, (headers, os.environ.get("CPATH"))))
        return told | {"CMAKE_LIBRARY_PATH": str(self.index), "CMAKE_INCLUDE_PATH": headers, "CPATH": searched}

    def libraries(self, module: Path) -> list[Path]:
        """NVIDIA's libraries that `module` needs, each after those that it needs itself. Raises Refused."""
        ordered: dict[str, Path] = {}
        for name in needed(module):
            if NVIDIA.match(name) and name not in ordered:
                library = self._library(name)
                ordered |= {each.name: each for each in (*self.libraries(library), library)}
        return list(ordered.values())

    def _library(self, name: str) -> Path:
        found = self.index / name if self.index and (self.index / name).exists() else _find(self.root, name)
        if found is None:
            raise Refused(f"{name} is neither below {self.root} nor in {', '.join(map(str, SYSTEM))}")
        return found


def find() -> Toolkit:
    """That of $CUDACXX, of the PATH, or where NVIDIA's packages put it. Raises Missing."""
    named = os.environ.get("CUDACXX") or shutil.which("nvcc") or (USUAL if USUAL.exists() else None)
    if not named or not os.access(named, os.X_OK):
        raise Missing("nvcc of a CUDA toolkit is neither on the PATH nor named in $CUDACXX")
    nvcc = Path(named)
    told = _output(nvcc, "--version")
    found = re.search(r"release (\d+\.\d+)", told)
    if not found:
        raise Missing(f"{nvcc} does not say which release it is: {told.strip()[:200]}")
    root = _root(nvcc)
    index = None if _find(root, "libcublas.so") else _index_cublas(found[1])
    return Toolkit(nvcc, root, found[1], index)


def needed(module: Path) -> list[str]:
    """The libraries that a file asks for by name."""
    return _NEEDED.findall(_output("readelf", "-d", module))


def families(text: str) -> str:
    """Compute capabilities as "90" or "86,89", as CMake's words: "86-real;89-real". Raises ValueError."""
    if not re.fullmatch(r"\d{2,3}a?(,\d{2,3}a?)*", text):
        raise ValueError(f"compute capabilities are written as 90 or 86,89, not '{text}'")
    return ";".join(f"{each}-real" for each in text.split(","))


def _root(nvcc: Path) -> Path:
    """What nvcc itself takes for its folder: the one on the PATH may be a script that calls it."""
    asked = subprocess.run([nvcc, "--dryrun", "-E", "none.cu"], capture_output=True, text=True, check=False)
    found = re.search(r"^#\$ _HERE_=(.+)$", asked.stderr, re.MULTILINE)
    return (Path(found[1]) if found else nvcc.resolve().parent).parent


def _index_cublas(release: str) -> Path:
    folder = WORK / f"cublas-{release}"
    if not folder.exists():
        suffix = "" if int(release.partition(".")[0]) >= 13 else "-cu12"
        tools.pip("install", "-qq", "--no-deps", "--target", folder, f"nvidia-cublas{suffix}=={release}.*")
    libraries = next(folder.rglob("libcublas.so.*")).parent
    for name in ("libcublas", "libcublasLt"):
        link = libraries / f"{name}.so"
        if not link.exists():
            link.symlink_to(next(libraries.glob(f"{name}.so.*")).name)
    return libraries


def _find(root: Path, name: str) -> Path | None:
    return next(_found(root, name), None)


def _found(root: Path, name: str) -> Iterator[Path]:
    yield from root.glob(f"lib*/{name}")
    yield from root.glob(f"targets/*/lib/**/{name}")
    yield from root.glob(f"lib*/stubs/{name}")
    for folder in SYSTEM:
        yield from folder.glob(name)
        yield from folder.glob(f"*-linux-gnu/{name}")


def _output(program: str | Path, *arguments: str | Path) -> str:
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=True).stdout

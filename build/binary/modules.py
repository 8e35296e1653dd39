"""ggml's backends as modules for xllamacpp's library: compiled of the very sources that it is made of, and made to fit.

A module takes ggml's own functions from the library, which is loaded before it and exports them: so it may not ask for a
libggml-base of its own, and its calls between its own functions stay inside it (-Bsymbolic), for the library has functions of
the same names.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from binary import tools
from binary.flavours import Refused

OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_NATIVE=OFF",  # for the processors that are named, not for the one that compiles
    "-DCMAKE_MODULE_LINKER_FLAGS=-Wl,-Bsymbolic",
    "-DCMAKE_SKIP_RPATH=ON",  # no folder of this machine is to be searched
    *(f"-DLLAMA_BUILD_{part}=OFF" for part in ("COMMON", "TOOLS", "SERVER", "TESTS", "EXAMPLES", "APP")),
)
BASE = "libggml-base.so"
_SYMBOL = re.compile(r"^(?:[0-9a-f]+)?\s*([A-Za-z])\s(\S+)$", re.MULTILINE)


def configure(source: Path, folder: Path, options: list[str], environ: Mapping[str, str]) -> str:
    """What CMake says of it on stdout."""
    command = [tools.path("cmake"), "-S", str(source), "-B", str(folder), *OPTIONS, *options]
    return subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True).stdout


def compile_target(folder: Path, target: str, jobs: int, environ: Mapping[str, str]) -> Path:
    """The module that `target` makes."""
    command = [tools.path("cmake"), "--build", str(folder), "--target", target, "--parallel", str(jobs)]
    subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=True)
    return folder / "bin" / f"lib{target}.so"


def fit(built: Path, module: Path) -> None:
    """`built` as `module`: without symbol table, and without a libggml-base of its own."""
    subprocess.run(["strip", "--strip-unneeded", "-o", module, built], check=True)
    patchelf = tools.path("patchelf")
    asked = subprocess.run([patchelf, "--print-needed", module], capture_output=True, text=True, check=True).stdout
    for name in asked.split():
        if name.startswith(BASE):
            subprocess.run([patchelf, "--remove-needed", name, module], check=True)


def check(module: Path, library: Path) -> None:
    """Raises Refused where `module` asks for something of ggml's that `library` does not export."""
    absent = asked_of_ggml(_nm("--undefined-only", module)) - names(_nm("--defined-only", library))
    if absent:
        few = ", ".join(sorted(absent)[:5])
        raise Refused(f"{module.name} does not fit {library.name}, which has no {few}: they are not of one version")


def asked_of_ggml(table: str) -> set[str]:
    """Of `nm -D --undefined-only`: what must come from the library. Versioned names are other libraries', weak ones may lack."""
    asked = (name for kind, name in _SYMBOL.findall(table) if kind == "U")
    return {name for name in asked if "@" not in name and re.search("ggml|gguf", name)}


def names(table: str) -> set[str]:
    return {name for _, name in _SYMBOL.findall(table)}


def _nm(which: str, file: Path) -> str:
    return subprocess.run(["nm", "-D", which, file], capture_output=True, text=True, check=True).stdout

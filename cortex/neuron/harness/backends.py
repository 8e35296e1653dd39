"""Backends beside the built-in engine: llama.cpp's own code for newer processors, and for NVIDIA's GPUs, as files in one folder.

The built-in engine has AVX2 and nothing newer. Before it loads a model, an engine process can put another *CPU backend* in
place of that, and add a *CUDA backend* (`ggml_backends.py`). Here is what the neuron knows and decides: it reads
the folder's list once, at its start, and never loads a library. A folder that is missing, damaged or of another version
of the library is a sentence then, on `/discovery` and for whoever loads a model, and never silently passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from cortex.neuron.hardware import library
from cortex.neuron.harness import backends_manifest
from cortex.neuron.harness.backends_manifest import CpuBackend, CudaBackend, Manifest

NAME = "harness.llamacpp.backends"
MANIFEST = "backends.json"
MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Backends:
    """What of a folder engines of this host load.

    cpu      for this host's processor; None: the built-in one computes
    cuda     for loads that use GPUs; None: there is none
    problem  why nothing of it can be used, as a sentence; None: it can
    """

    folder: Path
    cpu: CpuBackend | None = None
    cuda: CudaBackend | None = None
    problem: str | None = None

    def __str__(self) -> str:
        cuda = f"CUDA {self.cuda.version} for {', '.join(self.cuda.architectures)}" if self.cuda else "no CUDA"
        return self.problem or f"{self.cpu.variant if self.cpu else 'the built-in code'} on this processor, {cuda}"

    def paths(self, *, on_gpu: bool) -> Mapping[str, Any]:
        """The fields of an engine's specification: nothing of CUDA without need."""
        cuda = self.cuda if on_gpu else None
        return {
            "cpu_backend": self._path(self.cpu.file) if self.cpu else None,
            "gpu_backend": self._path(cuda.file) if cuda else None,
            "gpu_libraries": tuple(map(self._path, cuda.libraries)) if cuda else (),
        }

    def _path(self, file: str) -> str:
        return str(self.folder / file)

    def facts(self) -> dict[str, Any]:
        """As `/discovery` and `cortex version` tell them; no variant: the built-in one computes."""
        return {
            "cpu_variant": self.cpu.variant if self.cpu else None,
            "cuda_build": self.cuda.version if self.cuda else None,
            "cuda_architectures": self.cuda.architectures if self.cuda else (),
        }


def find(named: Path | None, cpu_flags: frozenset[str]) -> Backends | None:
    """The folder that the operator named, else the one beside the library; None: there is none, and none is missed. Reads files."""
    if named is not None:
        return examine(named.absolute(), cpu_flags, f"the folder '{named.name}' of {NAME}")
    package = library.folder()
    beside = package / "backends" if package else None
    return examine(beside, cpu_flags, "the folder 'backends' of this build") if beside and beside.exists() else None


def examine(folder: Path, cpu_flags: frozenset[str], called: str) -> Backends:
    """What is in it for a processor with these flags. `called`: how a sentence names it; its path is the operator's business."""
    try:
        manifest = _read(folder)
    except OSError as error:
        return Backends(folder, problem=f"{called} cannot be read: {error.strerror or error}")
    except ValueError as error:
        return Backends(folder, problem=f"{called} {error}")
    return Backends(folder, choose_cpu(manifest.cpu, cpu_flags), manifest.cuda)


def choose_cpu(offered: Iterable[CpuBackend], cpu_flags: frozenset[str]) -> CpuBackend | None:
    """The first, for they come best first, whose every need this processor meets."""
    return next((each for each in offered if cpu_flags.issuperset(each.needs)), None)


def _read(folder: Path) -> Manifest:
    """Raises OSError, and ValueError with a sentence's end."""
    if not folder.is_dir():
        raise ValueError("is no folder" if folder.exists() else "does not exist")
    try:
        manifest = backends_manifest.parse(_content(folder / MANIFEST))
    except ValueError as error:
        raise ValueError(f"cannot be used: its {MANIFEST} {error}") from None
    _check_version(manifest.xllamacpp)
    if absent := [name for name in manifest.files if not (folder / name).is_file()]:
        raise ValueError(f"cannot be used: {', '.join(absent)} is missing, which its {MANIFEST} names")
    return manifest


def _content(file: Path) -> bytes:
    if not file.is_file():  # a pipe would never end
        raise ValueError("is no file" if file.exists() else "is missing")
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"has more than {MAX_BYTES // 1024} KiB")
    return content


def _check_version(wanted: str) -> None:
    """They share structures in memory: another version would compute nonsense, or crash."""
    try:
        have = metadata.version(library.NAME)
    except metadata.PackageNotFoundError:
        have = "none"
    if wanted != have:
        raise ValueError(
            f"is for {library.NAME} {wanted}, and this build has {have}: make it anew with the build/backends of this version"
        )

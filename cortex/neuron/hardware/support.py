"""What this build's engines need of the processor and the GPUs, compared with what the host has; reasons as sentences."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cortex.build_info import BUILD_INFO
from cortex.neuron.hardware import library, processor
from cortex.wire.fleet import Device

# xllamacpp's wheels are compiled for these; without one of them the engine would die of SIGILL.
CPU_FEATURES = ("avx2", "fma", "f16c", "bmi2")
# Machine code for one compute capability runs on the later ones of its major version; 12.0's is for 12.0 alone ("120a").
_FAMILIES = {"ampere": (8, 6, 9), "ada": (8, 9, 9), "hopper": (9, 0, 9), "blackwell": (12, 0, 0)}
_ARCHITECTURE = re.compile(r"(\d+)(\d)([a-z]?)(?:-(real|virtual))?")


def cpu_reason(cpuinfo: str) -> str | None:
    """`cpuinfo` is the text of /proc/cpuinfo. None: nothing speaks against this processor, or it is no x86."""
    flags = processor.flags(cpuinfo)
    missing = [feature for feature in CPU_FEATURES if flags and feature not in flags]
    if not missing:
        return None
    return f"this host's processor has no {', '.join(missing).upper()}, which the engine of this build needs"


@dataclass(frozen=True, slots=True)
class CudaBuild:
    """What a library's code for GPUs was compiled for.

    told  how a sentence about that begins
    runs  whether it runs on a compute capability, "8.9"; None: the driver does not tell
    """

    told: str
    runs: Callable[[str | None], bool]

    def foreign(self, devices: Iterable[Device]) -> dict[int, str]:
        """Those of these GPUs that it has no code for, by index, with the reason as a sentence."""
        return {device.index: self._not_for([device]) for device in self._strangers(devices)}

    def reason(self, devices: Sequence[Device]) -> str | None:
        """Why it can use none of these GPUs; None: it has code for one at least, or none is there."""
        strangers = self._strangers(devices)
        return self._not_for(strangers) if strangers and len(strangers) == len(devices) else None

    def _strangers(self, devices: Iterable[Device]) -> list[Device]:
        return [device for device in devices if not self.runs(device.compute_capability)]

    def _not_for(self, devices: Iterable[Device]) -> str:
        return f"{self.told}, not for " + ", ".join(
            f"{device.name} ({device.compute_capability or 'unknown'})" for device in devices
        )


def of_flavour(flavour: str) -> CudaBuild:
    return CudaBuild(
        f"this build is compiled for another family of GPUs (flavour {flavour})",
        lambda capability: _runs(flavour, capability),
    )


def of_backend(architectures: Sequence[str]) -> CudaBuild:
    """`architectures` are CMake's words."""
    return CudaBuild(
        f"this build's CUDA backend is compiled for {', '.join(architectures)}",
        lambda capability: capability is None or any(covers(each, capability) for each in architectures),
    )


def cuda_reason(devices: Sequence[Device], flavour: str) -> str | None:
    """Why engines of `flavour` can use none of these GPUs; None when they can use some, or when the driver does not tell."""
    if devices and flavour == "cpu":
        return "this build has no CUDA (flavour cpu); install a flavour for this host's GPUs, or name backends for them, harness.llamacpp.backends"
    return of_flavour(flavour).reason(devices)


def _runs(flavour: str, capability: str | None) -> bool:
    if flavour not in _FAMILIES or capability is None:
        return True
    major, least, most = _FAMILIES[flavour]
    has_major, _, has_minor = capability.partition(".")
    return has_major == str(major) and least <= int(has_minor or 0) <= most


def no_gpu(version: str) -> str:
    """Whoever brought a CUDA backend to a host expects a GPU to compute: an absent one is told, and not made up for."""
    return (
        f"this build has a CUDA backend (CUDA {version}), and no NVIDIA GPU is seen here: its driver is not installed or not "
        "loaded (`nvidia-smi`), or the GPU is not passed to this container; a host without one wants the cpu flavour"
    )


def backend_reason(
    devices: Sequence[Device], architectures: Sequence[str], version: str, driver: str | None
) -> str | None:
    """Why a CUDA backend can use none of these GPUs; None when it can use some, or when the driver does not tell.

    architectures  that it is compiled for, CMake's words
    version        of CUDA, "13.0"; it runs with drivers for this major version and later ones, `driver`
    """
    if devices and driver and _major(driver) < _major(version):
        return f"this build's CUDA backend is of CUDA {version}, and the driver knows up to {driver}: a newer driver is needed"
    return of_backend(architectures).reason(devices)


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def covers(architecture: str, capability: str) -> bool:
    """Whether code for one architecture runs on a GPU of this compute capability, "8.9".

    Machine code ("86-real") runs on later minor versions of its major one; PTX ("80-virtual"), which the driver compiles,
    on everything later; "86" is both. With a letter behind it ("120a") it is for that very capability.
    """
    parts = _ARCHITECTURE.fullmatch(architecture)
    if parts is None:
        return False
    major, minor, letter, kind = parts.groups()
    own = (int(major), int(minor))
    has_major, _, has_minor = capability.partition(".")
    has = (int(has_major), int(has_minor or 0))
    if letter:
        return has == own
    return (kind != "real" and has >= own) or (kind != "virtual" and has[0] == own[0] and has >= own)


@functools.cache
def engine_flavour() -> str:
    """What the library itself was compiled for: "cpu" without CUDA in it, else as build/compile noted it, or "cuda"."""
    return (BUILD_INFO.get("flavour") or "cuda") if library.has_cuda() else "cpu"

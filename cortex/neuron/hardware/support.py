"""What this build's engines need of the processor and the GPUs, compared with what the host has; reasons as sentences."""

from __future__ import annotations

import functools
import importlib.util
import mmap
from collections.abc import Iterable
from pathlib import Path

from cortex.build_info import BUILD_INFO
from cortex.wire.fleet import Device

# xllamacpp's wheels are compiled for these; without one of them the engine would die of SIGILL.
CPU_FEATURES = ("avx2", "fma", "f16c", "bmi2")
# Machine code for one compute capability runs on the later ones of its major version; 12.0's is for 12.0 alone ("120a").
_FAMILIES = {"ampere": (8, 6, 9), "ada": (8, 9, 9), "hopper": (9, 0, 9), "blackwell": (12, 0, 0)}
_LIBRARY = "xllamacpp"


def cpu_reason(cpuinfo: str) -> str | None:
    """`cpuinfo` is the text of /proc/cpuinfo. None: nothing speaks against this processor, or it is no x86."""
    flags = next((line.partition(":")[2].split() for line in cpuinfo.splitlines() if line.startswith("flags")), None)
    missing = [feature for feature in CPU_FEATURES if flags is not None and feature not in flags]
    if not missing:
        return None
    return f"this host's processor has no {', '.join(missing).upper()}, which the engine of this build needs"


def cuda_reason(devices: Iterable[Device], flavour: str) -> str | None:
    """Why engines of `flavour` cannot use these GPUs; None when they can, or when the driver does not tell."""
    devices = tuple(devices)
    if devices and flavour == "cpu":
        return "this build has no CUDA (flavour cpu); install a flavour for this host's GPUs, see `cortex version`"
    strangers = [device for device in devices if not _runs(flavour, device.compute_capability)]
    if not strangers:
        return None
    told = ", ".join(f"{device.name} ({device.compute_capability})" for device in strangers)
    return f"this build is compiled for another family of GPUs (flavour {flavour}), not for {told}"


def _runs(flavour: str, capability: str | None) -> bool:
    if flavour not in _FAMILIES or capability is None:
        return True
    major, least, most = _FAMILIES[flavour]
    has_major, _, has_minor = capability.partition(".")
    return has_major == str(major) and least <= int(has_minor or 0) <= most


@functools.cache
def engine_flavour() -> str:
    """What engines were compiled for: as build/compile noted it; from source, "cuda" or "cpu" by a look into the library."""
    return BUILD_INFO.get("flavour") or ("cuda" if any(map(_knows_cuda, _libraries())) else "cpu")


def _libraries() -> list[Path]:
    found = importlib.util.find_spec(_LIBRARY)  # does not import it
    return sorted(Path(found.origin).parent.glob("*.so*")) if found and found.origin else []


def _knows_cuda(library: Path) -> bool:
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"ggml_cuda") >= 0

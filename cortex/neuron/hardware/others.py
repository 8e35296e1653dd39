"""GPUs of other makers: seen, named, and not used yet.

The seam for one of them is `HardwareWatch`: a reading with `devices`, `health` and `mb_by_process` as NVML's, taken by a
probe of its own. Until then `harness.llamacpp.server_binary` names a llama-server that knows such GPUs.
"""

from __future__ import annotations

import platform
from pathlib import Path

_CARDS = Path("/sys/class/drm")
_MAKERS = {"0x1002": "AMD", "0x8086": "Intel"}
_ADVICE = (
    "this version reads and assigns NVIDIA GPUs only; name a llama-server for it as harness.llamacpp.server_binary"
)


def gpus(cards: Path = _CARDS, system: str = platform.system(), machine: str = platform.machine()) -> tuple[str, ...]:
    """One sentence for each maker whose GPUs are here. An integrated one counts as well: it may serve small models."""
    if system == "Darwin" and machine == "arm64":
        return (f"an Apple GPU is here; {_ADVICE}",)
    found = {_maker(card) for card in sorted(cards.glob("card*/device/vendor"))}
    return tuple(f"a GPU by {maker} is here; {_ADVICE}" for maker in sorted(filter(None, found)))


def _maker(vendor: Path) -> str | None:
    try:
        return _MAKERS.get(vendor.read_text().strip())
    except OSError:
        return None

"""How fast something may be: `50MB/s`. No import of ours: the command line reads it at its start."""

from __future__ import annotations

import re

_RATE = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(?P<unit>[kKMG]?i?B)(?:/s)?")
_FACTORS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def parse_rate(said: object) -> int:
    """Bytes a second. Raises ValueError, which says what would be right."""
    match = _RATE.fullmatch(said.strip()) if isinstance(said, str) else None
    rate = round(float(match["number"]) * _FACTORS.get(match["unit"].upper(), 0)) if match else 0
    if rate < 1:
        raise ValueError(f"'{said}' is no rate: say bytes a second, as in 50MB/s (kB, MB, GB, KiB, MiB, GiB)")
    return rate

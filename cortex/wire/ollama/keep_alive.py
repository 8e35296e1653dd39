"""How long a model is to stay while nobody uses it, as Ollama's clients say it: `300`, `"5m"`, `"1h30m"`, `0`, `-1`."""

from __future__ import annotations

import re

from cortex.wire.fields import Value

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", re.ASCII)
_DURATION = re.compile(rf"-?(?:(?:{_PART.pattern})+|\d+)", re.ASCII)


def read_keep_alive(request: Value) -> float | None:
    """Seconds; 0: it leaves after this answer; -1: it stays; None: nothing was said. Raises CortexError 400."""
    keep_alive = request["keep_alive"]
    if not keep_alive.given:
        return None
    seconds = _seconds(keep_alive)
    return seconds if seconds >= 0 else -1.0


def _seconds(keep_alive: Value) -> float:
    said = keep_alive.raw
    if isinstance(said, int | float) and not isinstance(said, bool):
        return float(said)
    if not isinstance(said, str) or len(said) > 64 or not _DURATION.fullmatch(said):
        raise keep_alive.wrong('a number of seconds or a duration such as "5m"')
    parts = _PART.findall(said)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts) if parts else abs(float(said))
    return -seconds if said.startswith("-") else seconds

"""Waiting for a fact instead of for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(fact: Callable[[], object], *, within_s: float = 30) -> None:
    """Return as soon as `fact()` is true; a fact that never comes is a failure that shows the last value."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not (value := fact()):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"still {value!r} after {within_s:g} s")
        await asyncio.sleep(0.002)

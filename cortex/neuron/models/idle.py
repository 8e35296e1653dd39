"""Models that nobody has used for their `ttl` leave, whether a gateway looks or not."""

from __future__ import annotations

import asyncio

from cortex.neuron.models.registry import Registry

TICK_S = 1.0


async def watch(registry: Registry) -> None:
    """For ever."""
    while True:
        await asyncio.sleep(TICK_S)
        registry.retire_idle()

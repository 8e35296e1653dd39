"""Telling whoever waits that something has changed. It costs nothing while nobody waits."""

from __future__ import annotations

import asyncio


class Signal:
    """Used from one event loop only."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def tell(self) -> None:
        """Wake everybody who waits now."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, set()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, within_s: float) -> None:
        """Return at the next `tell`, or after `within_s` seconds."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=within_s)
        finally:
            self._waiting.discard(waiter)
            waiter.cancel()

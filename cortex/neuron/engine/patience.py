"""How long a start may take: its deadline, and longer while bytes still come into memory from a slow disk or network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from cortex.tasks import running

LOOK_S = 0.5
STANDSTILL_S = 60.0  # nothing has moved for so long: then the deadline holds


class Patience:
    """The moment at which a start is given up. Times are seconds of one clock, memory in MiB."""

    def __init__(self, now: float, deadline_s: float) -> None:
        self.until = now + deadline_s
        self._most_mb = 0

    def saw(self, memory_mb: int | None, now: float) -> bool:
        """Whether there is more in memory than ever before; then it may go on for a while."""
        if memory_mb is None or memory_mb <= self._most_mb:
            return False
        self._most_mb = memory_mb
        self.until = max(self.until, now + STANDSTILL_S)
        return True


async def within(
    work: Coroutine[Any, Any, None],
    deadline_s: float,
    memory_mb: Callable[[], int | None],
    moved: Callable[[int], None] | None = None,
) -> None:
    """Await `work`. Raises TimeoutError, and has cancelled it, when patience is at its end. `moved` hears of MiB in memory."""
    loop = asyncio.get_running_loop()
    patience = Patience(loop.time(), deadline_s)
    async with running(work, name="start") as starting:
        while not starting.done():
            left_s = patience.until - loop.time()
            if left_s <= 0:
                raise TimeoutError
            await asyncio.wait([starting], timeout=min(LOOK_S, left_s))
            seen_mb = memory_mb()
            if patience.saw(seen_mb, loop.time()) and moved and seen_mb is not None and not starting.done():
                moved(seen_mb)
        starting.result()

"""How long a model's way into memory may take: as long as nothing moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Patience:
    """TimeoutError ends a block of `lasting` after `seconds`, counted anew whenever something moved."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._limit: asyncio.Timeout | None = None

    @contextlib.asynccontextmanager
    async def lasting(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.seconds) as self._limit:
                yield
        finally:
            self._limit = None

    def moved(self, more_s: float = 0) -> None:
        """Bytes came, or a large file is to be read, which may take `more_s` more. Once patience has run out nothing helps."""
        if self._limit and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + self.seconds + more_s)

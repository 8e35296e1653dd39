"""An event loop whose clock does not run: when nothing is left to do it jumps to the next timer.

What is said of time-outs then holds on any machine, however slow, and costs nothing. Sockets work, between peers of the
same loop; what waits for a thread or for another process does not belong here, because time jumps while it works.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

DELIVERY_S = 0.001  # real time, in which bytes that were sent arrive at another socket of this host

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if ready := super().select(DELIVERY_S):
            return ready
        self.now += timeout
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(scenario: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(scenario)

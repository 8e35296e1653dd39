"""A thread for what blocks (the library's calls, the rendering of chats), and the way from it to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from cortex.neuron.harness.ctransformers_engine.generate import Abandoned, Cancelled

T = TypeVar("T")
PING_S = 1.0  # a client, and whatever stands before it, sees life while a prompt is computed


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Worker:
    """One thread. Who comes second waits; who leaves while waiting costs nothing."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def call(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def run(self, produce: Callable[[Cancelled], Iterator[T]]) -> AsyncGenerator[T | None, None]:
        """What `produce` yields in the thread, None for every second without. Leaving ends it, and waits until it has."""
        loop, queue, gone = asyncio.get_running_loop(), asyncio.Queue[T | _End](), threading.Event()

        def work() -> None:
            error: BaseException | None = None
            try:
                for item in produce(gone.is_set):
                    loop.call_soon_threadsafe(queue.put_nowait, item)
                    if gone.is_set():
                        break
            except Abandoned:
                pass
            except BaseException as failed:
                error = failed
            loop.call_soon_threadsafe(queue.put_nowait, _End(error))

        running = self._thread.submit(work)
        try:
            while not isinstance(item := await _next(queue), _End):
                yield item
            if item.error is not None:
                raise item.error
        finally:
            gone.set()
            if not running.cancel():
                await asyncio.shield(asyncio.wrap_future(running))


async def _next(queue: asyncio.Queue[T]) -> T | None:
    try:
        async with asyncio.timeout(PING_S):
            return await queue.get()
    except TimeoutError:
        return None

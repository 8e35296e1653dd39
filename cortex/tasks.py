"""The only caller of `asyncio.create_task`: every task has a name, an owner that keeps it, and somebody who hears of its end.

tasks = Tasks("gateway")
tasks.start("poll beast", poll(beast))       # reported when it fails, kept until it ends
await tasks.aclose()                         # cancelled and awaited at shutdown, last started first
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class Tasks:
    """The background tasks of one owner. Failures are logged with the task's name; nothing is lost silently."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: dict[asyncio.Task[Any], None] = {}  # a dict keeps the order of starting
        self._closed = False

    def __repr__(self) -> str:
        return f"<Tasks {self._owner}: {[task.get_name() for task in self._tasks]}>"

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start `work` now. Its failure is logged here; whoever awaits the task sees it as well."""
        if self._closed:
            work.close()
            raise RuntimeError(f"{self._owner} is closed and starts no task '{name}'")
        task = asyncio.create_task(work, name=f"{self._owner}: {name}")  # noqa: TID251  the one place
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed: %r", task.get_name(), error, exc_info=error)

    async def aclose(self) -> None:
        """Cancel and await what still runs. Afterwards nothing new starts here."""
        self._closed = True
        while self._tasks:
            for task in reversed(list(self._tasks)):
                await cancel(task)
                self._tasks.pop(task, None)


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end; its own failure was reported where it was started."""
    task.cancel()
    await asyncio.wait([task])


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, T], *, name: str) -> AsyncIterator[asyncio.Task[T]]:
    """Run `work` as a task of a block.

    async with running(open(), name="open") as task: ...

    The block awaits or races it; on leaving the block in any way it is cancelled and awaited.
    """
    task = asyncio.create_task(work, name=name)  # noqa: TID251  the one place
    try:
        yield task
    finally:
        if not task.done():
            await cancel(task)
        elif not task.cancelled():
            task.exception()  # seen: the block either raised it or went on without it

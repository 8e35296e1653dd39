"""One fleet for the tests of a file that only ask it something: engines are started once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from helpers import processes

from cortex.tasks import Tasks

T = TypeVar("T")
Run = Callable[[Callable[[T], Coroutine[Any, Any, Any]]], Any]


@contextlib.contextmanager
def shared(context: AbstractAsyncContextManager[T]) -> Iterator[Run[T]]:
    """Runs scenarios with what `context` opens, one after the other in one event loop; it is closed at the end of the block."""
    with asyncio.Runner() as runner:
        over, tasks = asyncio.Event(), Tasks("shared")

        async def hold(opened: asyncio.Future[T]) -> None:
            async with context as value:
                opened.set_result(value)
                await over.wait()

        async def begin() -> tuple[T, asyncio.Task[None]]:
            opened = asyncio.get_running_loop().create_future()
            holding = tasks.start("hold", hold(opened))
            await asyncio.wait([opened, holding], return_when=asyncio.FIRST_COMPLETED)
            if holding.done():
                await holding  # raises why it could not be opened
            return opened.result(), holding

        async def end(holding: asyncio.Task[None]) -> None:
            over.set()
            await holding

        def run(scenario: Callable[[T], Coroutine[Any, Any, Any]]) -> Any:
            try:
                return runner.run(scenario(value))
            finally:
                processes.begin()  # an engine that was started meanwhile is not the test's, and stays

        value, holding = runner.run(begin())
        try:
            yield run
        finally:
            runner.run(end(holding))

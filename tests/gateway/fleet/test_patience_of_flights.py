"""How long a model's way into memory may take."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cortex.gateway.fleet.patience import Patience


def test_patience_ends_when_nothing_moves() -> None:
    """As a time-out of the block, and of nothing else."""

    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            async with Patience(0.01).lasting():
                await asyncio.Event().wait()

    asyncio.run(scenario())


def test_what_moves_gives_more_of_it() -> None:
    """The end is counted anew, with what a large file takes on top."""

    async def scenario() -> None:
        patience = Patience(0.0)
        async with patience.lasting():
            patience.moved(3600)
            await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_who_moves_too_late_or_too_early_is_not_harmed() -> None:
    """Bytes of a copy that others wait for as well arrive whenever they do: also in the moment in which patience runs out."""

    async def scenario() -> None:
        mistakes: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: mistakes.append(context))
        patience = Patience(0.0)
        patience.moved()

        async def run_out() -> None:
            async with patience.lasting():
                loop.call_soon(patience.moved)  # behind the end, and before the block hears of it
                await asyncio.Event().wait()

        with pytest.raises(TimeoutError):
            await run_out()
        patience.moved()
        assert not mistakes

    asyncio.run(scenario())

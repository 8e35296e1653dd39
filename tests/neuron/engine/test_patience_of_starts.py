"""A start is given up at its deadline, and not while weights still come into memory."""

from __future__ import annotations

import asyncio

import pytest

from cortex.neuron.engine.patience import STANDSTILL_S, Patience, within


@pytest.mark.parametrize(
    ("seen", "until"),
    [
        ([], 100.0),
        ([(10, None), (20, None)], 100.0),
        ([(10, 50), (20, 60)], 100.0),
        ([(90, 50)], 90 + STANDSTILL_S),
        ([(90, 50), (99, 50), (99, 49)], 90 + STANDSTILL_S),
        ([(90, 50), (140, 51), (190, 52)], 190 + STANDSTILL_S),
    ],
    ids=["nothing is seen", "nobody tells", "early", "late", "it stands still", "a slow disk"],
)
def test_the_deadline_moves_while_memory_grows(seen: list[tuple[float, int | None]], until: float):
    """Only more than ever before is a step, and no step brings the end nearer."""
    patience = Patience(0.0, 100.0)
    for now, memory_mb in seen:
        patience.saw(memory_mb, now)
    assert patience.until == until


def test_a_start_that_stands_still_is_cancelled():
    """TimeoutError, and its work is over."""

    async def scenario():
        ended = asyncio.Event()

        async def never() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        with pytest.raises(TimeoutError):
            await within(never(), 0.01, lambda: None)
        assert ended.is_set()

    asyncio.run(scenario())


def test_a_start_that_fails_says_why():
    """Its own error is raised, not a time-out."""

    async def fails() -> None:
        raise ValueError("no such file")

    with pytest.raises(ValueError, match="no such file"):
        asyncio.run(within(fails(), 60, lambda: 1))

"""tasks: named, kept, reported, awaited."""

import asyncio

import pytest

from cortex.tasks import Tasks, cancel, running


def test_a_failure_is_reported_with_the_tasks_name(caplog):
    """Nobody awaits it, and still it is heard."""

    async def scenario():
        tasks = Tasks("owner")
        tasks.start("divide", _divide())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(tasks) == 0
        await tasks.aclose()

    asyncio.run(scenario())
    assert "owner: divide" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def _divide():
    return 1 / 0


def test_closing_cancels_the_last_started_first_and_waits_for_each():
    """What depends on something started earlier ends before it."""
    ended = []

    async def work(name):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    async def scenario():
        tasks = Tasks("owner")
        for name in "abc":
            tasks.start(name, work(name))
        await asyncio.sleep(0)
        await tasks.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            tasks.start("late", work("late"))

    asyncio.run(scenario())
    assert ended == ["c", "b", "a"]


def test_a_task_of_a_block_ends_with_the_block():
    """Leaving the block early, by an error or by its end, cancels and awaits the task."""

    async def scenario():
        with pytest.raises(KeyError):
            async with running(asyncio.Event().wait(), name="wait") as task:
                raise KeyError
        assert task.cancelled()
        async with running(asyncio.sleep(0, "done"), name="quick") as quick:
            assert await quick == "done"

    asyncio.run(scenario())


def test_cancelling_somebody_who_cancels_is_not_swallowed():
    """A canceller that is cancelled itself hears of it."""

    async def stubborn(release):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await release.wait()

    async def scenario():
        release = asyncio.Event()
        async with running(stubborn(release), name="stubborn") as victim:
            await asyncio.sleep(0)
            async with running(cancel(victim), name="canceller") as canceller:
                await asyncio.sleep(0)
                canceller.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await canceller
            release.set()

    asyncio.run(scenario())

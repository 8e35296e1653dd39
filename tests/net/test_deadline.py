import asyncio

from cortex.net.deadline import Deadline


def test_the_last_deadline_set_counts(run):
    """An earlier one moved later does not strike, a later one moved earlier does; each strikes once."""

    async def scenario() -> None:
        struck: list[str] = []
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        postponed = Deadline(loop, lambda: struck.append("postponed"))
        cleared = Deadline(loop, lambda: struck.append("cleared"))
        closed = Deadline(loop, lambda: struck.append("closed"))
        advanced = Deadline(loop, lambda: struck.append("advanced"))
        for deadline in (postponed, cleared, closed):
            deadline.set(0.01)
        postponed.set(60)
        cleared.clear()
        closed.close()
        advanced.set(60)
        advanced.set(0.02)
        last = Deadline(loop, done.set)
        last.set(0.05)
        await done.wait()
        assert struck == ["advanced"]
        postponed.close()

    run(scenario())


def test_a_deadline_set_again_strikes_again(run):
    """One timer serves wait after wait, also when it fired early in between."""

    async def scenario() -> None:
        strikes: asyncio.Queue[None] = asyncio.Queue()
        deadline = Deadline(asyncio.get_running_loop(), lambda: strikes.put_nowait(None))
        deadline.set(0.01)
        deadline.set(0.03)
        assert not deadline.passed()
        await strikes.get()
        assert not deadline.passed()
        deadline.set(0)
        assert deadline.passed()
        await strikes.get()

    run(scenario())


def test_a_deadline_that_is_over_at_once_can_be_set_again(run):
    """After a stop of the process a time-out may be past when it is set; it is moved like any other."""

    async def scenario() -> None:
        struck = asyncio.Event()
        deadline = Deadline(asyncio.get_running_loop(), struck.set)
        for seconds in (-5, -1, 0, -3, 60):
            deadline.set(seconds)
        deadline.set(-1)
        await struck.wait()
        assert not deadline.passed()

    run(scenario())

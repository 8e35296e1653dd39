"""Admission: bounded in flight, bounded queue, bounded wait, and nothing leaks."""

import asyncio

import pytest

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.models.admission import Admission, AdmissionLimits
from cortex.wire.principal import Caller

A, B = Caller("a", "a"), Caller("b", "b")


def _admission(in_flight=1, queue=1, wait=30.0, per_principal=None):
    return Admission("m", AdmissionLimits(in_flight, queue, wait, per_principal))


async def _hold(admission, release, order=None, name=None, caller=None):
    async with admission.admit(caller):
        if order is not None:
            order.append(name)
        await release.wait()


async def _turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


def test_one_more_than_the_queue_holds_is_refused_at_once_with_a_hint():
    """Over capacity is a fast 429 with Retry-After, not an unbounded wait."""

    async def scenario():
        admission, release = _admission(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(_hold(admission, release))
            group.create_task(_hold(admission, release))
            await _turns()
            with pytest.raises(CortexError) as refused:
                async with admission.admit():
                    pass
            release.set()
        assert (refused.value.status, refused.value.code) == (429, "rate_limit_exceeded")
        assert refused.value.retry_after == 4
        assert admission.rejected_queue_full == 1
        assert repr(admission) == "<Admission m: 0 in flight, 0 waiting>"

    asyncio.run(scenario())


def test_places_are_given_in_order_of_arrival():
    """First come, first served; nobody overtakes the queue."""

    async def scenario():
        admission, release = _admission(queue=5), asyncio.Event()
        order: list[int] = []
        release.set()
        async with asyncio.TaskGroup() as group:
            for name in range(5):
                group.create_task(_hold(admission, release, order, name))
        assert order == [0, 1, 2, 3, 4]

    asyncio.run(scenario())


def test_a_wait_that_is_too_long_ends_with_429():
    """A waiter is told after max_wait_secs, and leaves no trace."""

    async def scenario():
        admission, release = _admission(wait=0.01), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(_hold(admission, release))
            await _turns()
            with pytest.raises(CortexError, match="no place came free"):
                async with admission.admit():
                    pass
            release.set()
        assert (admission.in_flight, admission.queue_depth, admission.rejected_timeout) == (0, 0, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("turns", range(6))
def test_a_cancelled_client_gives_its_place_back_whenever_it_leaves(turns):
    """Cancel a waiter at every stage, also in the moment its place is granted: the next one gets it, none is lost."""

    async def scenario():
        admission, release, last = _admission(queue=2), asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(_hold(admission, release))
            await _turns()
            leaving = group.create_task(_hold(admission, asyncio.Event()))
            group.create_task(_hold(admission, last))
            await _turns()
            release.set()
            await _turns(turns)
            leaving.cancel()
            last.set()
        assert repr(admission) == "<Admission m: 0 in flight, 0 waiting>"

    asyncio.run(scenario())


def test_closing_tells_those_who_wait_and_lets_those_in_flight_finish():
    """A model that is unloaded refuses its queue at once and waits for what it works on."""

    async def scenario():
        admission, release = _admission(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(_hold(admission, release))
            await _turns()
            waiter = asyncio.gather(_hold(admission, release), return_exceptions=True)
            await _turns()
            admission.close(errors.shutting_down())
            (told,) = await waiter
            assert isinstance(told, CortexError)
            assert told.code == "shutting_down"
            assert not await admission.idle(0.01)
            release.set()
            assert await admission.idle(5)

    asyncio.run(scenario())


def test_a_place_goes_round_among_the_callers_that_wait():
    """While the place is held, two keys and somebody without one queue up: the keys take turns, the other comes last."""

    async def scenario():
        admission, held, free = _admission(queue=10), asyncio.Event(), asyncio.Event()
        order: list[str] = []
        free.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(_hold(admission, held))
            await _turns()
            for name, caller in (("x", None), ("a0", A), ("a1", A), ("a2", A), ("b0", B), ("b1", B)):
                group.create_task(_hold(admission, free, order, name, caller))
                await _turns()
            held.set()
        assert order == ["a0", "b0", "a1", "b1", "a2", "x"]
        assert repr(admission) == "<Admission m: 0 in flight, 0 waiting>"

    asyncio.run(scenario())


def test_a_caller_with_a_name_takes_the_last_place_in_the_queue_of_one_without():
    """Where the queue is full of anonymous callers, the one that came last is refused instead; among keys nobody is."""

    async def scenario():
        admission, held = _admission(queue=2), asyncio.Event()
        order: list[str] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(_hold(admission, held))
            await _turns()
            first = asyncio.gather(_hold(admission, held), return_exceptions=True)
            await _turns()
            last = asyncio.gather(_hold(admission, held), return_exceptions=True)
            await _turns()
            group.create_task(_hold(admission, held, order, "a", A))
            (refused,) = await last
            assert isinstance(refused, CortexError)
            assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
            group.create_task(_hold(admission, held, order, "b", B))
            (refused,) = await first
            assert isinstance(refused, CortexError)
            assert refused.status == 429
            with pytest.raises(CortexError, match="is full"):
                await _hold(admission, held, caller=A)
            with pytest.raises(CortexError, match="is full"):
                await _hold(admission, held)
            held.set()
        assert order == ["a", "b"]
        assert admission.rejected_queue_full == 4
        assert admission.queue_depth == admission.in_flight == 0

    asyncio.run(scenario())


def test_a_caller_at_its_own_limit_leaves_places_to_others():
    """With max_per_principal 1, a key's second request waits though there is a place, and another's does not."""

    async def scenario():
        admission, first, rest = _admission(in_flight=2, queue=5, per_principal=1), asyncio.Event(), asyncio.Event()
        order: list[str] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(_hold(admission, first, order, "a0", A))
            group.create_task(_hold(admission, rest, order, "a1", A))
            await _turns()
            assert (order, admission.queue_depth) == (["a0"], 1)
            group.create_task(_hold(admission, rest, order, "x", None))
            await _turns()
            assert (order, admission.in_flight) == (["a0", "x"], 2)
            first.set()
            await _turns()
            assert order == ["a0", "x", "a1"]
            rest.set()
        assert admission.in_flight == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("turns", range(6))
def test_a_named_client_that_leaves_frees_its_share_too(turns):
    """Cancelled at every stage, with a limit for each caller: the places of both callers come free again."""

    async def scenario():
        admission, release, last = _admission(queue=3, per_principal=1), asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(_hold(admission, release, caller=A))
            await _turns()
            leaving = group.create_task(_hold(admission, asyncio.Event(), caller=A))
            group.create_task(_hold(admission, last, caller=B))
            await _turns()
            release.set()
            await _turns(turns)
            leaving.cancel()
            last.set()
        async with admission.admit(A):
            assert repr(admission) == "<Admission m: 1 in flight, 0 waiting>"

    asyncio.run(scenario())

"""Weighted round robin over callers: shares, order, and nobody starves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from cortex.neuron.models.fair import FairQueue
from cortex.wire.principal import Caller

A, B, HEAVY = Caller("a", "a"), Caller("b", "b"), Caller("heavy", "heavy", weight=3)


def queue_of(*waiters: tuple[str, Caller | None]) -> FairQueue[str]:
    queue: FairQueue[str] = FairQueue()
    for waiter, caller in waiters:
        queue.add(waiter, caller)
    return queue


def turns(queue: FairQueue[str], count: int = 99) -> list[str]:
    popped: Iterable[tuple[str, Caller | None] | None] = (queue.pop(lambda _: True) for _ in range(count))
    return [each[0] for each in popped if each]


def test_callers_take_turns_however_many_they_sent():
    """A hundred of one delay another's one by one turn; each one's own stay in order."""
    queue = queue_of(*((f"a{number}", A) for number in range(100)), ("b0", B), ("b1", B))
    assert turns(queue, 6) == ["a0", "b0", "a1", "b1", "a2", "a3"]
    assert len(queue) == 96


def test_a_weight_is_a_share():
    """Of three to one, three of four places go to the heavier."""
    queue = queue_of(*((f"{caller.key_id}{n}", caller) for n in range(40) for caller in (A, HEAVY)))
    assert Counter(turn[0] for turn in turns(queue, 40)) == {"h": 30, "a": 10}


def test_those_without_a_name_come_when_no_other_may():
    """In order of arrival, after whoever has a name."""
    queue = queue_of(("x0", None), ("a0", A), ("x1", None), ("a1", A))
    assert turns(queue) == ["a0", "a1", "x0", "x1"]


def test_whoever_may_not_go_is_passed_over():
    """A caller at its own limit keeps its place in line, and what it leaves goes to the next."""
    queue = queue_of(("a0", A), ("b0", B), ("x0", None))
    only_b = [queue.pop(lambda caller: caller == B) for _ in range(2)]
    assert [each and each[0] for each in only_b] == ["b0", "x0"]
    assert queue.pop(lambda _: False) is None
    assert turns(queue) == ["a0"]


def test_sending_one_at_a_time_gains_nothing():
    """A caller that comes back as soon as it was served alternates with one that waits with many."""
    queue = queue_of(*((f"a{number}", A) for number in range(10)), ("b", B))
    order = []
    for _ in range(10):
        (turn,) = turns(queue, 1)
        order.append(turn[0])
        if turn == "b":
            queue.add("b", B)
    assert Counter(order) == {"a": 5, "b": 5}


def test_absence_saves_nothing_up():
    """A caller that was away does not get the turns that it missed."""
    queue = queue_of(*((f"a{number}", A) for number in range(50)))
    turns(queue, 20)
    for number in range(10):
        queue.add(f"b{number}", B)
    assert Counter(turn[0] for turn in turns(queue, 10)) == {"a": 5, "b": 5}


CALLERS = [A, B, HEAVY, None]


@given(st.lists(st.tuples(st.sampled_from(["add", "pop", "remove"]), st.sampled_from(CALLERS)), max_size=80))
def test_every_waiter_gets_one_turn_or_leaves(steps):
    """Whatever comes and goes: nobody is lost, nobody goes twice, each one's own order holds."""
    queue: FairQueue[int] = FairQueue()
    waiting: dict[Caller | None, list[int]] = {caller: [] for caller in CALLERS}
    for number, (step, caller) in enumerate(steps):
        if step == "add":
            queue.add(number, caller)
            waiting[caller].append(number)
        elif step == "remove" and waiting[caller]:
            queue.remove(waiting[caller].pop(), caller)
        elif step == "pop":
            turn = queue.pop(lambda _: True)
            assert (turn is None) == (not any(waiting.values()))
            if turn:
                assert waiting[turn[1]].pop(0) == turn[0]
                assert turn[1] or not any(waiting[named] for named in (A, B, HEAVY))
        assert len(queue) == sum(map(len, waiting.values()))
        assert sorted(queue) == sorted(number for numbers in waiting.values() for number in numbers)

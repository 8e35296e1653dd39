"""What failures teach on one model's way into memory."""

from __future__ import annotations

from cortex import errors
from cortex.errors import CortexError
from cortex.gateway.fleet.lessons import TRIES, Lessons
from cortex.gateway.routing.decisions import Candidate, Victim
from cortex.wire.fleet import LoadRequest


def candidate(node: str = "a", context: int | None = None, *, victims: bool = False) -> Candidate:
    leaving = (Victim("old", 1, None, 100),) if victims else ()
    return Candidate(node, LoadRequest(model_id="m", context=context), leaving)


def no_room(required_mb: int | None) -> CortexError:
    return errors.insufficient_vram("no room", free_mb=1, required_mb=required_mb)


def test_a_figure_is_believed_some_times_and_then_no_more() -> None:
    """A neuron that says what the model needs is asked by that; one that says something else each time is left alone."""
    lessons = Lessons()
    for attempt in range(1, TRIES):
        lessons.failed(candidate(), no_room(100 * attempt))
        assert lessons.circumstances["told"] == {"a": 100 * attempt}
        assert not lessons.failed_on
    lessons.failed(candidate(), no_room(1000))
    assert lessons.failed_on == {"a"}
    assert lessons.told == {"a": 100 * (TRIES - 1)}


def test_where_memory_ran_out_everybody_leaves_and_then_the_context_shrinks() -> None:
    """Each is tried once, and only where that would help."""
    lessons = Lessons()
    lessons.failed(candidate(context=8192), no_room(None))
    assert lessons.second_chance(2048, lambda: candidate(victims=True))
    assert (lessons.emptied, lessons.failed_on) == ({"a"}, set())
    lessons.failed(candidate(context=8192), no_room(None))
    assert lessons.second_chance(2048, lambda: candidate(context=4096))
    assert lessons.too_much == {"a": 8192}
    lessons.failed(candidate(context=2048), no_room(None))
    assert not lessons.second_chance(2048, candidate)
    assert lessons.failed_on == {"a"}


def test_a_failure_of_another_kind_has_no_second_chance() -> None:
    """Memory is no help against a broken file."""
    lessons = Lessons()
    lessons.failed(candidate(), errors.upstream_failed("broken"))
    assert not lessons.second_chance(256, lambda: candidate(victims=True))


def test_what_is_worth_a_retry_is_told_first() -> None:
    """Else what the best candidate said; nothing where nobody failed."""
    assert Lessons().telling is None
    lessons = Lessons()
    first, second = errors.invalid_request("broken"), errors.unavailable("busy")
    lessons.blame("a", first)
    assert lessons.telling is first
    lessons.blame("b", second)
    assert lessons.telling is second

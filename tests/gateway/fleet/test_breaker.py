"""When a neuron that fails gets no requests, and when it is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.gateway.fleet.breaker import CLOSED, FAILURES, RETRY_MAX_S, RETRY_S, Breaker


def after(story: str, now: float = 100.0) -> Breaker:
    """A breaker after some letters: f a request failed, a was answered, y a probe was answered, n was not, t it is known to be gone."""
    breaker = CLOSED
    for letter in story:
        match letter:
            case "f":
                breaker = breaker.failed(now)
            case "a":
                breaker = CLOSED
            case "t":
                breaker = breaker.tripped(now)
            case _:
                breaker = breaker.probed(now, answered=letter == "y")
    return breaker


@pytest.mark.parametrize(
    ("story", "pause"),
    [
        ("", None),
        ("ff", None),
        ("ffaff", None),
        ("fff", RETRY_S),
        ("t", RETRY_S),
        ("fffffff", RETRY_S),
        ("fffn", 2 * RETRY_S),
        ("fffnn", 4 * RETRY_S),
        ("fffy", None),
        ("fffyf", 2 * RETRY_S),
        ("fffya", None),
        ("fffyaff", None),
        ("fff" + "n" * 50, RETRY_MAX_S),
        ("y", None),
        ("n", None),
    ],
)
def test_a_story_of_failures_and_probes(story: str, pause: float | None):
    """Three in a row open it; probes that fail make it wait longer; one answered request forgets everything."""
    assert after(story).retry_at == (None if pause is None else 100.0 + pause)


@given(st.text("faynt", max_size=60))
def test_whatever_happens_it_is_tried_again(story: str):
    """It is never open without a next probe within the longest pause, and never opens for less than FAILURES failures unless it was open before."""
    breaker = after(story)
    assert breaker.retry_at is None or 100.0 < breaker.retry_at <= 100.0 + RETRY_MAX_S
    if "t" not in story and story.count("f") < FAILURES:
        assert not breaker.is_open
    assert after(story + "a") == CLOSED

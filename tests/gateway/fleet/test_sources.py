"""Whom a copy asks for files, and when it asks somebody else."""

from __future__ import annotations

from cortex.gateway.fleet.sources import ATTEMPTS, TRIES, Sources


def test_a_source_that_hiccups_is_asked_again_and_one_that_is_dead_is_replaced():
    """A file that has been read once is not read anew on another host for a short cut."""
    sources = Sources("a", "m", lambda: {"a": "m", "c": "m:Q4"})
    asked = []
    while sources.failed(for_good=False):
        asked.append(sources.node)
    assert asked == ["a"] * (TRIES - 1) + ["c"] * ATTEMPTS + ["a"] * (ATTEMPTS - TRIES)
    assert sources.asked == ["a", "c"]


def test_bytes_that_come_make_good_for_failures():
    """Only failures in a row count."""
    sources = Sources("a", "m", lambda: {"a": "m"})
    for _ in range(3 * ATTEMPTS):
        assert sources.failed(for_good=False)
        sources.gave()
    assert sources.failures == 0


def test_who_is_known_to_be_down_is_asked_last():
    """One failure is enough then; without anybody else it is waited for all the same."""
    up = {"a": "m"}
    sources = Sources("a", "m", lambda: up)
    up = {"c": "m:Q4"}
    assert sources.failed(for_good=False)
    assert (sources.node, sources.model_id) == ("c", "m:Q4")
    up = {}
    assert sources.failed(for_good=True)
    assert (sources.node, sources.model_id, sources.failures) == ("a", "m", 1)


def test_a_refusal_for_good_is_not_asked_about_again():
    """Nobody is left when that was the only one."""
    sources = Sources("a", "m", lambda: {"a": "m"})
    assert not sources.failed(for_good=True)

"""models.toml: what a profile, an alias and the resident set may say."""

import pytest

from cortex.config.catalogue import Catalogue
from cortex.config.loader import ConfigError, validate


def catalogue(**values):
    return validate(Catalogue, values, source="models.toml")


def test_an_alias_names_one_model_or_several():
    """The first target is what the alias means; the others may stand in for it."""
    it = catalogue(aliases={"small": "a", "any": ["b", "a"]})
    assert [it.resolve(name) for name in ("small", "any", "c")] == ["a", "b", "c"]
    assert [it.targets(name) for name in ("small", "any", "c")] == [("a",), ("b", "a"), ("c",)]
    assert (it.aliases_of("a"), it.aliases_of("b")) == (("small",), ("any",))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"aliases": {"x": "y", "y": "z"}}, "aliases.x: points at the alias 'y'"),
        ({"aliases": {"x": ["z", "y"], "y": "z"}}, "aliases.x: points at the alias 'y'"),
        ({"aliases": {"x": []}}, "aliases.x"),
        ({"aliases": {"x": {"display_name": "X"}}}, "aliases.x.model"),
        ({"aliases": {"x": {"model": "y", "displayname": "X"}}}, "display_name"),
        ({"models": [{"id": "a"}, {"id": "a"}]}, "'a' is listed twice"),
        ({"models": [{"id": "a", "context": 1024, "min_context": 2048}]}, "min_context: 2048 is above context, 1024"),
        ({"models": [{"id": "a", "vram": 5}]}, "did you mean 'vram_mb'"),
        ({"resident": {"model": ["a"]}}, "did you mean 'models'"),
    ],
)
def test_a_mistake_is_named_with_its_place(values, words):
    """The key, and what would be right."""
    with pytest.raises(ConfigError, match=words):
        catalogue(**values)


@pytest.mark.parametrize(
    ("fields", "priority"),
    [
        ({}, 100),
        ({"pinned_on": ["x"]}, 1000),
        ({"residency_priority": 7}, 7),
        ({"pinned_on": ["x"], "residency_priority": 7}, 7),
    ],
)
def test_a_pinned_model_ranks_high_unless_it_is_ranked(fields, priority):
    """Where a model may run and whom it may displace are two things; the first generation's pinning meant both."""
    it = catalogue(models=[{"id": "a"} | fields])
    assert (it.priority("a"), it.priority("of no profile")) == (priority, 100)

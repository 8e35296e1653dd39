"""NOTICE names every package that an installation brings."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

NOTICE = Path(__file__).parents[2] / "NOTICE"


def test_every_dependency_is_in_the_notice() -> None:
    """A new dependency, also one of a dependency, is not shipped unnamed."""
    named = set(re.findall(r"^  ([a-z0-9.-]+)  +\S", NOTICE.read_text(), re.MULTILINE))
    assert closure("cortex") - {"cortex"} - named == set()


def closure(package: str, known: set[str] | None = None) -> set[str]:
    """The names of `package` and of everything that it needs here, without extras."""
    known = set() if known is None else known
    name = re.sub(r"[-_.]+", "-", package).lower()
    if name in known:
        return known
    known.add(name)
    for text in metadata.requires(package) or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            closure(requirement.name, known)
    return known

"""How much a test tries: few cases with every run, many with `build/test long`."""

from __future__ import annotations

import os

_LONG = "CORTEX_TEST_LONG" in os.environ


def cases(few: int, many: int) -> int:
    """A number of whatever is tried, for a test that is marked `long`."""
    return many if _LONG else few

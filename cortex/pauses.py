"""The garbage collector's pauses, kept out of requests' way.

Nearly everything here is freed by its reference count; the collector only looks for cycles, and looks through every object
that is alive to find none. What a gateway knows of a thousand hosts is half a million objects: as often as Python does it
by default, a full look stops everything for a third of a second each time.
"""

from __future__ import annotations

import gc

# Objects made and not freed before the youngest are looked through, how often these before the older ones, and how often
# those before all: a full look comes after a hundred million, which is days.
THRESHOLDS = (5_000, 20, 1_000)


def shorten() -> None:
    """At the start of a role's process."""
    gc.set_threshold(*THRESHOLDS)


def settle() -> None:
    """After it: what is there now (modules, classes, configuration) stays for good, and is never looked through again."""
    gc.collect()
    gc.freeze()

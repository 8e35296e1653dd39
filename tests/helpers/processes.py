"""The processes that a test starts, apart from what earlier ones keep for the session, as a database server."""

from __future__ import annotations

import contextlib
from pathlib import Path

_from_before: set[int] = set()


def begin() -> None:
    """A test begins: what runs now is not its own. Called by the fixture in conftest.py, for every test."""
    _from_before.update(_all())


def keep(pid: int) -> None:
    """This one serves the whole session, whichever test was the first to need it."""
    _from_before.add(pid)


def children() -> set[int]:
    """Processes that this test started and has not reaped."""
    return _all() - _from_before


def only_child() -> int:
    """The one process that this test has."""
    (child,) = children()
    return child


def command(pid: int) -> str:
    """The command line of a process; empty of one that has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _all() -> set[int]:
    found: set[int] = set()
    for listed in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            found.update(map(int, listed.read_text().split()))
    return found

"""Lock files: one at a time brings a file, over all processes of this host. They are tidied away, so a held one must be the one on disk."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO

POLL_S = 0.2
_TRIES = 100  # against whoever tidies at the same time: one or two are enough


def taken(path: Path) -> IO[str] | None:
    """The held lock, which is free again when it is closed; None while somebody else has it. Makes its folder; raises OSError."""
    for _ in range(_TRIES):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened, contextlib.suppress(FileNotFoundError):
            file = opened.enter_context(path.open("a"))
            if not _flocked(file.fileno()):
                return None
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                opened.pop_all()
                return file
    raise FileNotFoundError(None, "it is removed again and again", str(path))


@contextlib.asynccontextmanager
async def locked(path: Path, while_waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the lock for the time of a block, however long it takes to get it."""
    while not (file := taken(path)):
        while_waiting()
        await asyncio.sleep(POLL_S)
    with file:
        yield


def remove_free(path: Path) -> None:
    """Remove the lock file, unless somebody holds it."""
    if file := taken(path):
        with file:
            path.unlink()


def _flocked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

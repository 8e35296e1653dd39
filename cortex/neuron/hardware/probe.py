"""A probe that may hang: in a thread of its own, one at a time, and nobody waits for it longer than he wants to.

The thread is a daemon: one that hangs in a driver must not keep this process from ending.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable


class Probe:
    """Runs `read` when asked. Used from one event loop."""

    def __init__(self, name: str, read: Callable[[], None]) -> None:
        self._name = name
        self._read = read
        self._reading: asyncio.Future[None] | None = None
        self._next: asyncio.Future[None] | None = None  # asked for while one ran: what that one saw may be old
        self._begun = 0.0
        self.finished: float | None = None  # when the last good reading was complete, `time.monotonic`

    @property
    def age_s(self) -> float | None:
        """Seconds since the last good reading; None: there never was one."""
        return None if self.finished is None else time.monotonic() - self.finished

    @property
    def running_s(self) -> float:
        """For how long the one that runs has been running; 0 when none does."""
        return time.monotonic() - self._begun if self._reading else 0.0

    def ask(self) -> asyncio.Future[None]:
        """A reading that begins now or later, never one that has begun before. Its error is in the future."""
        if self._reading is None:
            return self._begin(asyncio.get_running_loop().create_future())
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return self._next

    def _begin(self, reading: asyncio.Future[None]) -> asyncio.Future[None]:
        self._reading, self._begun = reading, time.monotonic()
        threading.Thread(target=self._run, args=(reading.get_loop(),), name=self._name, daemon=True).start()
        return reading

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        error: Exception | None = None
        try:
            self._read()
        except Exception as failed:  # whatever a driver's library raises is told to who asked
            error = failed
        try:
            loop.call_soon_threadsafe(self._end, error)
        except RuntimeError:  # the loop is closed: nobody wants to know any more
            return

    def _end(self, error: Exception | None) -> None:
        reading, following = self._reading, self._next
        self._reading = self._next = None
        if error is None:
            self.finished = time.monotonic()
        if following is not None:
            self._begin(following)
        if reading is not None and not reading.done():
            reading.set_exception(error) if error else reading.set_result(None)
            reading.exception()  # read once: an error that nobody waited for is no news

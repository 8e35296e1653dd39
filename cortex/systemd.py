"""What systemd is told (sd_notify): ready, alive, stopping. Started by anything else, nothing is said and nothing fails.

Protocol: sd_notify(3), one datagram of `KEY=value` lines to the socket that NOTIFY_SOCKET names. The pings of the watchdog
(WATCHDOG_USEC) come from the event loop: one that hangs is restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, MutableMapping

from cortex.tasks import Tasks

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def ready(environ: MutableMapping[str, str] = os.environ) -> AsyncIterator[None]:
    """Say that the program is ready, and on leaving that it stops. To be entered last, so that it is left first."""
    address, ping_s = environ.pop("NOTIFY_SOCKET", ""), _ping_s(environ)  # engines have no business with it
    if not address:
        yield
        return
    tasks = Tasks("systemd")
    notify(address, "READY=1")
    if ping_s:
        tasks.start("watchdog", _ping(address, ping_s))
    try:
        yield
    finally:
        notify(address, "STOPPING=1")
        await tasks.aclose()


async def _ping(address: str, ping_s: float) -> None:
    while True:
        notify(address, "WATCHDOG=1")
        await asyncio.sleep(ping_s)


def _ping_s(environ: MutableMapping[str, str]) -> float | None:
    """Half of what systemd allows, as it advises; None where it watches nobody, or another process."""
    allowed_us, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    return int(allowed_us) / 2e6 if allowed_us.isdigit() and pid in {"", str(os.getpid())} else None


def notify(address: str, state: str) -> None:
    """One datagram; `@` in front means an abstract socket. A service manager that does not listen must not stop a service."""
    target = f"\0{address[1:]}" if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)  # noqa: FBT003  the socket module takes it so
            sender.sendto(state.encode(), target)
    except OSError as error:
        log.warning("systemd was not told %s: %s", state, error)

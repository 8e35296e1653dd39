"""What is left when all is quiet again: requests counted as running, connections, processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx

from trials.fleet import Trial

SETTLE_S = 45.0  # the control plane's connections rest for 30 s
QUIET_S = 8.0  # an engine notices only after some seconds that a connection is of no use any more
STOP_S = 60.0


async def permits(trial: Trial) -> int:
    """Requests that a neuron counts as running or waiting, although nobody asks."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http:

        async def held() -> int:
            total = 0
            for port in trial.ports.values():
                models = (await http.get(f"http://127.0.0.1:{port}/health")).json()["models"]
                total += sum(model["in_flight"] + model["queue_depth"] for model in models)
            return total

        return await _least(held, within_s=SETTLE_S)


def connections(trial: Trial) -> int:
    """Established connections: TCP of every role, and what engines have accepted on their Unix sockets."""
    tcp, accepted = _established_tcp(), _accepted_unix()
    roles = (trial.gateway, *trial.neurons.values())
    engines = [pid for process in trial.neurons.values() for pid in process.engines()]
    return sum(len(_sockets(role.pid) & tcp) for role in roles) + sum(len(_sockets(pid) & accepted) for pid in engines)


def _sockets(pid: int) -> set[str]:
    """The inodes of a process's sockets."""
    found = set()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                kind, _, inode = str(link.readlink()).partition(":")
                if kind == "socket":
                    found.add(inode.strip("[]"))
    return found


def _established_tcp() -> set[str]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[3] == "01"}


def _accepted_unix() -> set[str]:
    """Those with a path: the other end of each has none."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return {row[6] for row in rows if row[5] == "03" and len(row) > 7}


async def settled_connections(trial: Trial) -> int:
    """The least number of connections within a while without requests."""

    async def now() -> int:
        return connections(trial)

    return await _least(now, within_s=QUIET_S)


async def leaked_sockets(trial: Trial, before: int) -> int:
    async def more() -> int:
        return max(0, connections(trial) - before)

    return await _least(more, within_s=SETTLE_S)


async def _least(count: Callable[[], Coroutine[Any, Any, int]], *, within_s: float) -> int:
    """The smallest count that is seen until the time is over, or there is nothing left to count."""
    deadline, least = time.monotonic() + within_s, sys.maxsize
    while least and time.monotonic() < deadline:
        least = min(least, await count())
        await asyncio.sleep(0.2)
    return least


async def stop_in_order(trial: Trial) -> int:
    """SIGTERM to everybody, the gateway first. Returns how many could not end by themselves in time: they held something."""
    stuck = 0
    for process in (trial.gateway, *trial.neurons.values()):
        process.send(signal.SIGTERM)
        stuck += not await asyncio.to_thread(process.wait, STOP_S)
    return stuck


def leaked_processes(trial: Trial) -> list[int]:
    """Processes with the trial's marker in their environment."""
    marker, found = trial.marker.encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if marker in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found

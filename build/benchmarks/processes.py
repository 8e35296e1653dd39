"""A process on one core, from its start to its end."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.errors import CannotRun

# What a Python process of ours finds its modules by, from whatever folder it is started.
ROOT = Path(__file__).resolve().parents[2]
_SEARCHED = [str(ROOT), str(ROOT / "build"), *filter(None, [os.environ.get("PYTHONPATH")])]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(_SEARCHED)}
START_S = 30.0
STOP_S = 10.0


@contextlib.contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """What this process starts within the block runs on these cores, and so does whatever that starts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    port: int,
    log: Path,
    cores: set[int] | None = None,
    host: str = "127.0.0.1",
    within_s: float = START_S,
) -> Iterator[int]:
    """A process that listens on `port` of a loopback address; yields its pid. What it says goes to the file `log`. Raises CannotRun."""
    with log.open("wb") as said, pinned(cores or os.sched_getaffinity(0)):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=ENVIRONMENT)
    try:
        _wait_for(host, port, process, log, within_s)
        yield process.pid
    finally:
        _end(process)


def cpu_seconds(pid: int) -> float:
    """What a process and its children have used of a core since they began."""
    return sum(map(_own_cpu_seconds, [pid, *children(pid)]))


def _own_cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name before may hold anything
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user and system


def children(pid: int) -> list[int]:
    """The processes that a process has started and that are still there."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def _wait_for(host: str, port: int, process: subprocess.Popen[bytes], log: Path, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        time.sleep(0.02)
    raise CannotRun(f"{process.args!r} did not start to listen on port {port}; it said:\n{log.read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

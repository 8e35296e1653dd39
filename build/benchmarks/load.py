"""Load on a proxy, from a process on its own core: requests/s with wrk where it is installed, events/s with our own client."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.client import BODIES, PATH
from benchmarks.errors import CannotRun
from benchmarks.processes import ENVIRONMENT, pinned

REQUEST_CONNECTIONS = 32
STREAMS = 16


def requests_per_s(port: int, seconds: int, folder: Path, core: int) -> float:
    """Whole answers a second at 32 connections."""
    if not (wrk := shutil.which("wrk")):
        return own_client(port, "answers", REQUEST_CONNECTIONS, seconds, core)
    script = folder / "chat.lua"
    script.write_text(f"""\
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{BODIES["answers"]}'
""")
    url = f"http://127.0.0.1:{port}{PATH}"
    command = [wrk, "-t1", f"-c{REQUEST_CONNECTIONS}", f"-d{seconds}s", "-s", str(script), url]
    said = _run(command, seconds, core)
    if found := re.search(r"Non-2xx.*|Socket errors.*", said):
        raise CannotRun(f"wrk was not answered as it should be: {found[0]}")
    return float(re.findall(r"Requests/sec: *([\d.]+)", said)[0])


def events_per_s(port: int, seconds: int, core: int) -> float:
    """SSE events a second over 16 streams."""
    return own_client(port, "events", STREAMS, seconds, core)


def own_client(port: int, kind: str, connections: int, seconds: int, core: int) -> float:
    """`kind` is "answers" or "events"; see client.py. Raises CannotRun when something else than 200 was answered."""
    arguments = [str(port), kind, str(connections), str(seconds)]
    return float(_run([sys.executable, "-m", "benchmarks.client", *arguments], seconds, core))


def _run(command: list[str], seconds: int, core: int) -> str:
    with pinned({core}):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + 60, check=False, env=ENVIRONMENT
        )
    if done.returncode:
        raise CannotRun(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout

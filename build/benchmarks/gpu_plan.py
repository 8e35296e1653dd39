"""What `build/test gpu` shows things with: which card, which servers and libraries; what is missing is made where that is allowed."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.cycles import demo_model
from benchmarks.errors import CannotRun
from benchmarks.gpu_report import Report
from cortex.neuron.hardware import processor
from cortex.neuron.hardware.nvidia import NvidiaReading
from cortex.neuron.harness import backends, ctransformers_cuda, server_binary
from cortex.neuron.harness.llamacpp import LlamaCpp
from cortex.wire.fleet import Device

SERVER = processes.ROOT / "dist" / "engine" / "llama-server"
BACKENDS = processes.ROOT / "dist" / "backends"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is there to show it with.

    card      everything goes to this one; None: to the processor, in a rehearsal
    model     the file that is loaded, a llama of some 100 MB that knows France
    server    a llama-server, which may have to be made
    backends  a folder with CUDA for the built-in engine
    """

    card: Device | None
    model: Path
    server: Path
    backends: Path
    libraries: Path | None
    tokens: int
    offline: bool

    @property
    def settings(self) -> dict[str, Any]:
        """Go with every load."""
        return {"devices": [self.card.index]} if self.card else {"gpu_layers": 0, "threads": 1}

    @property
    def capability(self) -> str:
        """As compilers are told it: "90"."""
        return ((self.card and self.card.compute_capability) or "").replace(".", "")


def of(args: argparse.Namespace, reading: NvidiaReading) -> Plan:
    """Raises CannotRun."""
    card = None if args.rehearse else _freest(reading)
    return Plan(
        card,
        model=args.model.resolve() if args.model else demo_model(),
        server=(args.server or SERVER).resolve(),
        backends=(args.backends or BACKENDS).resolve(),
        libraries=args.cuda12.resolve() if args.cuda12 else None,
        tokens=args.tokens or (8 if args.rehearse else 256),
        offline=args.offline or args.rehearse,
    )


def _freest(reading: NvidiaReading) -> Device:
    """Of the cards that answer."""
    free = {each.index: each.vram_free_mb or 0 for each in reading.health if not each.problem}
    if not free:
        raise CannotRun("no GPU of this host answers")
    return next(each for each in reading.devices if each.index == max(free, key=lambda index: free[index]))


def has_server(plan: Plan) -> bool:
    """One that lists no GPU, as a build for the processor does, is none."""
    return plan.server.is_file() and (plan.card is None or bool(server_binary.examine(plan.server).gpus))


def make_server(plan: Plan, report: Report) -> None:
    """For the one card alone. Raises CannotRun."""
    if plan.offline or not plan.capability:
        raise CannotRun("there is no llama-server for this GPU; build/engine makes one, and --server names it")
    command = [str(processes.ROOT / "build" / "engine"), "--cuda", plan.capability, "--output", str(plan.server.parent)]
    try:
        subprocess.run(command, check=True, stdout=sys.stderr, timeout=report.within(24 * 3600))
    except subprocess.TimeoutExpired:
        raise CannotRun("build/engine was not done in time; a second run goes on where it ended") from None
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotRun(f"build/engine failed: {error}") from None


def check_backends(plan: Plan) -> None:
    """Raises CannotRun for a folder without CUDA for the card; in a rehearsal any that can be used will do."""
    how = f"build/backends --cpu --cuda {plan.capability or '90'} makes one, and --backends names it"
    found = backends.examine(plan.backends, processor.read_flags(), f"the folder '{plan.backends.name}'")
    if found.problem or (plan.card and not found.cuda):
        raise CannotRun(f"{found.problem or f'the folder {plan.backends.name!r} has no CUDA'}; {how}")
    if plan.card and (why := LlamaCpp(backends=found).foreign_gpus([plan.card])):
        raise CannotRun(f"{why[plan.card.index]}; {how}")


def install_cuda12(plan: Plan, report: Report) -> None:
    """CUDA 12 for legacy models, as packages, where no folder is named and none are there."""
    if plan.libraries or plan.offline or not ctransformers_cuda.find(None).problem:
        return
    report.say("     installing cortex[cuda-legacy]")
    command = [str(processes.ROOT / "build" / "venv"), "test", "demo", "cuda-legacy"]
    subprocess.run(command, check=False, stdout=sys.stderr, timeout=report.within(1800))
    importlib.invalidate_caches()


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="build/test gpu", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server", type=Path, metavar="FILE", help="a llama-server with CUDA (dist/engine/llama-server)"
    )
    parser.add_argument(
        "--backends", type=Path, metavar="FOLDER", help="what build/backends --cuda made (dist/backends)"
    )
    parser.add_argument(
        "--cuda12", type=Path, metavar="FOLDER", help="CUDA 12's libraries for legacy models (packages)"
    )
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="a GGUF in place of SmolLM2-135M-Instruct of the package index"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=" ".join(PARTS))
    parser.add_argument("--tokens", type=int, metavar="N", help="of each answer whose speed is measured (256)")
    parser.add_argument(
        "--within", type=float, metavar="SECONDS", help="no part is begun after it, and nothing waits beyond it"
    )
    parser.add_argument("--offline", action="store_true", help="nothing that is missing is installed or compiled")
    parser.add_argument(
        "--output",
        type=Path,
        default=processes.ROOT / "dist" / "gpu",
        metavar="FOLDER",
        help="for figures.json, which grows as things are found out, and the logs (dist/gpu)",
    )
    parser.add_argument("--json", action="store_true", help="figures and claims as one JSON object on stdout as well")
    parser.add_argument(
        "--rehearse", action="store_true", help="the same on the processor, with or without a GPU; it proves nothing"
    )
    return parser.parse_args()


PARTS = ("discovery", "built-in", "strangers", "ctransformers", "server")

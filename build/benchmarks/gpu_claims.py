"""What is claimed of engines on GPUs, one model after another: a load's memory, a killed engine's, how fast they write."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from benchmarks import gpu_neuron
from benchmarks.errors import CannotRun
from benchmarks.gpu_neuron import GpuNeuron, Memory
from benchmarks.gpu_speed import speeds

BACK_MB = 64  # of what was free before a load must be free after its end, but so much


@dataclass
class Report:
    """What held and what did not, told as it is found out, and the figures."""

    claims: dict[str, bool] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def __call__(self, claim: str, held: object) -> None:
        self.say(f"{'ok  ' if held else 'NOT '} {claim}")
        self.claims[claim] = bool(held)

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    @property
    def failed(self) -> list[str]:
        return [claim for claim, held in self.claims.items() if not held]

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """One of the parts: what stops it is a claim that did not hold, and the others go on."""
        self.say(f"\n{name}")
        try:
            yield
        except (CannotRun, httpx.HTTPError, subprocess.CalledProcessError) as error:
            self(f"{name}: {error}", held=False)


def loads(neuron: GpuNeuron, model: Mapping[str, Any], name: str, report: Report) -> None:
    """Memory of a load and after its end; a second load, which finds compiled what the first had to compile."""
    before = neuron.used_mb()
    seconds = [neuron.loaded(model)]
    loaded, entry = neuron.used_mb(), neuron.entry()
    neuron.unload(model)
    memory = Memory(before, loaded, neuron.settled_mb(before + BACK_MB))
    seconds.append(neuron.loaded(model))
    neuron.unload(model)
    told = {key: entry.get(key) for key in ("devices", "vram_used_mb", "vram_estimate_mb")}
    report.say(f"     {memory}; the neuron says {told}; loads took {seconds[0]:.1f} and {seconds[1]:.1f} s")
    report.figures[name] = {"memory_mb": asdict(memory), "told": told, "load_s": seconds}
    report(f"{name}: memory is back to within {BACK_MB} MiB", memory.after - memory.before <= BACK_MB)


def killed(neuron: GpuNeuron, model: Mapping[str, Any], name: str, report: Report) -> None:
    before = neuron.used_mb()
    neuron.loaded(model)
    engine = neuron.engine()
    gpu_neuron.end(engine)
    gpu_neuron.until(lambda: (entry := neuron.entry()).get("last_death") and entry["status"] == "loaded")
    report(f"{name}: a killed engine is replaced", neuron.engine() != engine)
    report(f"{name}: the driver knows nothing of the killed one", not neuron.holds(engine))
    neuron.unload(model)
    report(
        f"{name}: its memory is back to within {BACK_MB} MiB", neuron.settled_mb(before + BACK_MB) - before <= BACK_MB
    )


def writes(neuron: GpuNeuron, model: Mapping[str, Any], name: str, tokens: int, report: Report) -> None:
    neuron.loaded(model)
    report.figures[name]["tokens_per_s"] = found = speeds(str(neuron.http.base_url), model["model_id"], tokens)
    neuron.unload(model)
    report.say(f"     tokens/s by streams: {found}")

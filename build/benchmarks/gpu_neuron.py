"""A neuron on this host's GPUs, with its engines one way or another, and what its models take."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks import processes
from benchmarks.errors import CannotRun
from benchmarks.ports import free_port
from cortex.neuron.hardware.nvidia import Nvidia

START_S = 120.0  # without persistence mode every process wakes the driver anew, and a neuron asks a server three times
LOAD_S = 900.0  # the driver compiles for a card that is newer than the library
FACT_S = 60.0
Within = Callable[[float], float]  # seconds that something usually may take → those that it may now


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB in use on all cards together: before a load, while the model is there, after its end."""

    before: int
    loaded: int
    after: int


class GpuNeuron:
    """A running neuron.

    settings  go with every load: those of a rehearsal keep it off the GPUs
    within    what is left of the time that something may take
    """

    def __init__(self, http: httpx.Client, pid: int, settings: Mapping[str, Any], within: Within) -> None:
        self.http = http
        self._pid = pid
        self._settings = dict(settings)
        self._within = within
        self._nvidia = Nvidia()

    def load(self, model: Mapping[str, Any]) -> httpx.Response:
        body = {"harness": "auto", **model, **self._settings}
        return self.http.post("/models/load", json=body, timeout=self._within(LOAD_S))

    def loaded(self, model: Mapping[str, Any]) -> float:
        """Seconds that the load took. Raises CannotRun."""
        begun = time.monotonic()
        answer = self.load(model)
        if answer.status_code != 200:
            raise CannotRun(f"{model['model_id']} could not be loaded: {answer.text[:500]}")
        return time.monotonic() - begun

    def unload(self, model: Mapping[str, Any]) -> None:
        self._unload(model["model_id"]).raise_for_status()

    def empty(self) -> None:
        """Nothing is left of what failed before."""
        for entry in self.http.get("/models").json():
            self._unload(entry["id"])

    def _unload(self, model_id: str) -> httpx.Response:
        return self.http.post("/models/unload", json={"model_id": model_id}, timeout=self._within(LOAD_S))

    def entry(self) -> dict[str, Any]:
        """Of the only model, as /models lists it. Raises CannotRun."""
        listed = self.http.get("/models").json()
        if len(listed) != 1:
            raise CannotRun(f"one model was expected, and there are {len(listed)}")
        return dict(listed[0])

    def until(self, fact: Callable[[], object]) -> None:
        """Raises CannotRun when it does not come true."""
        until(fact, self._within(LOAD_S))

    def detail(self, harness: str) -> dict[str, Any]:
        details = self.http.get("/discovery").json()["harness_details"]
        return next((each for each in details if each["name"] == harness), {})

    def engine(self) -> int:
        """The process id of the only engine. Raises CannotRun."""
        engines = processes.children(self._pid)
        if len(engines) != 1:
            raise CannotRun(f"one engine was expected, and there are {len(engines)}")
        return engines[0]

    def holds(self, pid: int) -> bool:
        """Whether the driver knows a process. In a container it may know it by another number, and says no."""
        return pid in self._nvidia.read().mb_by_process

    def used_mb(self) -> int:
        return sum(device.vram_used_mb or 0 for device in self._nvidia.read().health)

    def settled_mb(self, most_mb: int) -> int:
        """What is in use once it is no more than that, or after ten seconds: the driver takes a moment to clean up."""
        deadline = time.monotonic() + 10.0
        while (used := self.used_mb()) > most_mb and time.monotonic() < deadline:
            time.sleep(0.1)
        return used


@contextlib.contextmanager
def running(
    models: Mapping[str, Path],
    section: str,
    settings: Mapping[str, Any],
    within: Within,
    log: Path,
) -> Iterator[GpuNeuron]:
    """`models` are files by their names; `section` is TOML for neuron.toml; `log` is the file that gets the neuron's."""
    with tempfile.TemporaryDirectory(prefix="cortex-gpu-") as name:
        folder, port = Path(name), free_port()
        (folder / "models").mkdir()
        for file, source in models.items():
            (folder / "models" / file).symlink_to(source)
        config = folder / "neuron.toml"
        config.write_text(
            f'port = {port}\nmodels_dir = "{folder}/models"\nruntime_dir = "{folder}/run"\n'
            f'state_dir = "{folder}/state"\nhub = {{ enabled = false }}\n{section}'
        )
        command = [sys.executable, "-m", "cortex", "--role", "neuron", "--config", str(config)]
        with (
            processes.running(command, port=port, log=log, within_s=within(START_S)) as pid,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=FACT_S, trust_env=False) as http,
        ):
            yield GpuNeuron(http, pid, settings, within)


def until(fact: Callable[[], object], within_s: float) -> None:
    """Raises CannotRun when it does not come true."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if fact():
                return
        time.sleep(0.05)
    raise CannotRun(f"something did not happen within {within_s:.0f} s")


def end(pid: int) -> None:
    os.kill(pid, 9)

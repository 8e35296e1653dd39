"""The fleet of a trial: a gateway and four neurons with real engines as processes, two fakes in this one.

Its gateway is reconfigured by rewriting its file; its neurons are killed, stopped and started again under the same port.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from benchmarks.errors import CannotRun
from benchmarks.ports import free_port
from benchmarks.processes import children
from helpers import scripted_gguf

from trials.fakes import BadNeuron
from trials.verdict import sentence

ROOT = Path(__file__).resolve().parents[2]
REAL = ("alpha", "beta", "gamma")
FAKED = "delta"  # only the fakes have it
NEURONS = {"n1": ("alpha", "beta"), "n2": ("alpha", "gamma"), "n3": ("beta", "gamma"), "n4": ("alpha", "beta", "gamma")}
IDLE_S, LOAD_S = 3, 20  # seconds of silence that are an error, and no fault; of a load
HUNG_S = 90.0  # beyond every time-out that one request can meet
START_S = 60.0


@dataclass
class Process:
    """A role. `start` again after its end."""

    command: list[str]
    environ: dict[str, str]
    log: Path
    popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as said:
            self.popen = subprocess.Popen(
                self.command, env=self.environ, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )

    @property
    def pid(self) -> int:
        assert self.popen is not None  # noqa: S101  it was started
        return self.popen.pid

    @property
    def is_running(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def wait(self, within_s: float | None = None) -> bool:
        """Whether it has ended."""
        assert self.popen is not None  # noqa: S101  it was started
        try:
            self.popen.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def send(self, number: signal.Signals) -> None:
        if self.popen:
            self.popen.send_signal(number)  # does nothing when it has ended

    def engines(self) -> list[int]:
        with contextlib.suppress(OSError):
            return children(self.pid)
        return []


@dataclass
class Trial:
    """Everything that runs. `marker` is in the environment of every process, and so finds those that were left."""

    folder: Path
    gateway: Process
    neurons: dict[str, Process]
    fakes: list[BadNeuron]
    ports: dict[str, int]
    port: int
    marker: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def configure(self, *, without: frozenset[str] = frozenset(), quick: str = "alpha", keepalive: float = 1.0) -> None:
        """Rewrite the gateway's files in one step each."""
        entries = {name: f"http://127.0.0.1:{port}" for name, port in self.ports.items()}
        entries |= {fake.name: fake.endpoint for fake in self.fakes}
        text = (
            f"[gateway]\nlisten = '127.0.0.1:{self.port}'\nmetrics_listen = '127.0.0.1:0'\n"
            f"idle_timeout_secs = {IDLE_S}\nload_timeout_secs = {LOAD_S}\npoll_interval_secs = 0.5\npoll_timeout_secs = 2\n"
            f"keepalive_secs = {keepalive}\ndrain_secs = 30\n"
        )
        for name, endpoint in entries.items():
            if name not in without:
                text += f"[[neurons]]\nname = '{name}'\nendpoint = '{endpoint}'\n"
        profiles = "".join(
            f"[[models]]\nid = '{model}'\nthreads = 1\ncontext = 4096\nparallel = 4\nmin_devices = 0\n"
            f"pinned_on = {[name for name, models in NEURONS.items() if model in models]}\n"
            for model in REAL
        )
        self.write("models.toml", f"{profiles}[aliases]\nquick = '{quick}'\n")
        self.write("cortex.toml", text)

    def write(self, name: str, text: str) -> None:
        (self.folder / "new").write_text(text)
        (self.folder / "new").rename(self.folder / name)


def _models(folder: Path) -> dict[str, Path]:
    """The scripted model under several names, each of which says its own."""
    made = {}
    for model in REAL:
        words = sentence(model).replace(".", " .").split()
        before = scripted_gguf.SCRIPTS["hello"]
        scripted_gguf.SCRIPTS["hello"] = [words[0], f" {words[1]}", f" {words[2]}", "."]
        made[model] = folder / f"{model}.gguf"
        scripted_gguf.write_scripted_model(made[model])
        scripted_gguf.SCRIPTS["hello"] = before
    return made


def _neuron(folder: Path, name: str, models: dict[str, Path], environ: dict[str, str], port: int) -> Process:
    home = folder / name
    (home / "models").mkdir(parents=True)
    for model in NEURONS[name]:
        (home / "models" / f"{model}.gguf").symlink_to(models[model])
    file = home / "neuron.toml"
    file.write_text(
        f"port = {port}\nmodels_dir = '{home}/models'\nstate_dir = '{home}'\nruntime_dir = '{home}/run'\n"
        f"hub = {{ enabled = false }}\nlimits = {{ drain_secs = 5 }}\n"
        f"admission = {{ max_wait_secs = 10, idle_timeout_secs = {IDLE_S} }}\n"
    )
    return Process(
        [sys.executable, "-m", "cortex", "--role", "neuron", "-c", str(file)], environ, folder / f"{name}.log"
    )


@contextlib.asynccontextmanager
async def running(folder: Path, chance: random.Random) -> AsyncIterator[Trial]:
    """A fleet in which every neuron answers and every model has been loaded once. Raises CannotRun."""
    marker = f"CHAOS_RUN={uuid.uuid4().hex}"
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "CHAOS_RUN": marker.partition("=")[2]}
    models = await asyncio.to_thread(_models, folder)
    ports = {name: free_port() for name in NEURONS}
    neurons = {name: _neuron(folder, name, models, environ, ports[name]) for name in NEURONS}
    command = [sys.executable, "-m", "cortex", "--role", "gateway", "-c", str(folder / "cortex.toml")]
    gateway = Process(command, environ, folder / "gateway.log")
    async with contextlib.AsyncExitStack() as stack:
        fakes = [await stack.enter_async_context(BadNeuron(name, [FAKED, "alpha"], chance)) for name in ("f1", "f2")]
        trial = Trial(folder, gateway, neurons, fakes, ports, free_port(), marker)
        trial.configure()
        stack.callback(_end_all, trial)
        for process in (*neurons.values(), gateway):
            process.start()
        async with httpx.AsyncClient(base_url=trial.url, trust_env=False, timeout=LOAD_S) as client:
            await _until(lambda: _all_healthy(client, len(NEURONS) + len(fakes)), "the fleet is not up")
            for model in REAL:
                await _until(functools.partial(_answers, client, model), f"{model} does not answer")
        yield trial


def _end_all(trial: Trial) -> None:
    for process in (trial.gateway, *trial.neurons.values()):
        if process.is_running:
            process.send(signal.SIGKILL)
            process.wait()


async def _all_healthy(client: httpx.AsyncClient, count: int) -> bool:
    told = (await client.get("/health")).json()
    return bool(told["nodes"]["healthy"] == count)


async def _answers(client: httpx.AsyncClient, model: str) -> bool:
    body = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    return (await client.post("/v1/chat/completions", json=body)).status_code == 200


async def _until(fact: Callable[[], Any], otherwise: str, within_s: float = START_S) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if await fact():
                return
        await asyncio.sleep(0.1)
    raise CannotRun(f"{otherwise} after {within_s:g} s")


async def all_well(trial: Trial, within_s: float) -> bool:
    """Whether the gateway takes every neuron for healthy again, in time."""
    async with httpx.AsyncClient(base_url=trial.url, trust_env=False, timeout=LOAD_S) as client:
        try:
            await _until(lambda: _all_healthy(client, len(NEURONS) + len(trial.fakes)), "", within_s)
        except CannotRun:
            return False
        return True

"""What is done to the fleet, by chance: the same seed does the same things in the same order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from cortex.tasks import Tasks
from trials.fleet import REAL, Process, Trial

PAUSE_S = (0.3, 1.5)  # between two faults
DOWN_S = (0.5, 2.0)
STOPPED_S = (0.5, 8.0)  # sometimes longer than the idle time-out
FATAL = (signal.SIGKILL, signal.SIGSEGV)
BAD_FILES = ("[gateway]\nlisen = 'x'\n", "[[neurons", "[[neurons]]\nname = 'x'\nendpoint = 'nonsense'\n")


class Storm:
    """Faults for as long as `blow` runs; `calm` undoes what can be undone. `done` counts them."""

    def __init__(self, trial: Trial, chance: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self._trial = trial
        self._chance = chance
        self._tasks = Tasks("storm")
        self._running: list[asyncio.Task[None]] = []
        self._faults: list[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = [
            (4, self._kill_engine),
            (3, self._stop_engine),
            (2, self._kill_neuron),
            (2, self._stop_neuron),
            (3, self._reload),
            (1, self._bad_reload),
        ]

    async def blow(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        weights = [weight for weight, _ in self._faults]
        while time.monotonic() < end:
            _, fault = self._chance.choices(self._faults, weights)[0]
            self._running.append(self._tasks.start(fault.__name__, fault()))
            await asyncio.sleep(self._chance.uniform(*PAUSE_S))

    async def calm(self) -> None:
        """Everybody goes on, whoever is down comes back, the fakes behave, the first configuration is in force."""
        if self._running:
            await asyncio.wait(self._running)
        for fake in self._trial.fakes:
            fake.well = True
        for process in self._trial.neurons.values():
            if not process.is_running:
                process.start()
        self._trial.configure()
        self._trial.gateway.send(signal.SIGHUP)

    def _count(self, what: str) -> None:
        self.done[what] += 1

    def _some_neuron(self) -> Process:
        return self._trial.neurons[self._chance.choice(sorted(self._trial.neurons))]

    async def _kill_engine(self) -> None:
        number = self._chance.choice(FATAL)
        if engines := self._some_neuron().engines():
            self._count(f"engine {number.name}")
            _signal(self._chance.choice(engines), number)

    async def _stop_engine(self) -> None:
        seconds = self._chance.uniform(*STOPPED_S)
        if engines := self._some_neuron().engines():
            self._count("engine SIGSTOP")
            pid = self._chance.choice(engines)
            _signal(pid, signal.SIGSTOP)
            await asyncio.sleep(seconds)
            _signal(pid, signal.SIGCONT)

    async def _kill_neuron(self) -> None:
        process, number, seconds = self._some_neuron(), self._chance.choice(FATAL), self._chance.uniform(*DOWN_S)
        if not process.is_running:  # somebody else has just killed it, and starts it again
            return
        self._count(f"neuron {number.name}")
        process.send(signal.SIGCONT)
        process.send(number)
        await asyncio.to_thread(process.wait)
        await asyncio.sleep(seconds)
        process.start()

    async def _stop_neuron(self) -> None:
        process, seconds = self._some_neuron(), self._chance.uniform(*STOPPED_S)
        self._count("neuron SIGSTOP")
        process.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        process.send(signal.SIGCONT)

    async def _reload(self) -> None:
        self._count("reload")
        out = frozenset(self._chance.sample([*sorted(self._trial.ports), "f1", "f2"], self._chance.randrange(3)))
        quick, keepalive = self._chance.choice(REAL), self._chance.choice([0.5, 1.0, 2.0])
        self._trial.configure(without=out, quick=quick, keepalive=keepalive)
        if self._chance.random() < 0.5:
            self._trial.gateway.send(signal.SIGHUP)

    async def _bad_reload(self) -> None:
        self._count("bad reload")
        self._trial.write("cortex.toml", self._chance.choice(BAD_FILES))
        self._trial.gateway.send(signal.SIGHUP)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)

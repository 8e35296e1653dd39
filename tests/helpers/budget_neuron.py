"""A fake neuron with little memory: it says what models take, refuses what does not fit, and writes down what happened.

sizes                model id → MiB; all of them are on its disk
log                  "load a", "unload a", "serve a", in their order
cut_off              models that were unloaded while they were busy: never, if a gateway is right
forgets              models of which it does not say what they take
out_of_memory        model id → how often its load dies for want of memory all the same
gate                 inference waits for it
busy_elsewhere       requests by model that are another gateway's
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import orjson
from helpers.fake_neuron import FakeJob, FakeNeuron
from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web

EXPECTED_S = 1.0  # as a real neuron has it


class BudgetNeuron(FakeNeuron):
    def __init__(self, name: str, budget_mb: int, sizes: dict[str, int], *loaded: str) -> None:
        super().__init__(name)
        self.budget_mb = budget_mb
        self.sizes = sizes
        self.log: list[str] = []
        self.cut_off: list[str] = []
        self.clock_ahead_s = 0.0
        self.forgets: set[str] = set()
        self.out_of_memory: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()
        self.busy_elsewhere: Counter[str] = Counter()
        self.in_flight: Counter[str] = Counter()
        self.used: dict[str, float] = {}
        self.expected: dict[str, float] = {}  # until when whoever waited for a load is on the way to it
        self.contexts: dict[str, int | None] = {}
        for model_id in sizes:
            self._unloaded(model_id)
        for model_id in loaded:
            self._loaded(model_id)

    @property
    def free_mb(self) -> int:
        return self.budget_mb - sum(
            self.sizes[model_id] for model_id, entry in self.models.items() if entry["status"] == "loaded"
        )

    def loaded(self) -> list[str]:
        return [model_id for model_id, entry in self.models.items() if entry["status"] == "loaded"]

    def _unloaded(self, model_id: str) -> None:
        known = {} if model_id in self.forgets else {"vram_measured_mb": self.sizes[model_id]}
        self.models[model_id] = {"id": model_id, "status": "unloaded", **known}

    def _loaded(self, model_id: str) -> None:
        self.used[model_id] = self.now()
        self.models[model_id] = {"id": model_id, "status": "loaded", "vram_used_mb": self.sizes[model_id]}

    async def _health(self, _request: Request) -> HTTPResponse:
        models = [
            {
                "id": model_id,
                "in_flight": self.in_flight[model_id] + self.busy_elsewhere[model_id],
                "last_used": self.used[model_id],
            }
            for model_id in self.loaded()
        ]
        return web.json({"uptime_secs": 1, "memory_free_mb": self.free_mb, "models": models, "time": self.now()})

    def now(self) -> float:
        return time.time() + self.clock_ahead_s

    async def _bring_up(self, job: FakeJob) -> None:
        await self.load_gate.wait()
        job.error = self._refusal(job.model_id) or self.load_failures.get(job.model_id)
        if job.error:
            self._unloaded(job.model_id)
        else:
            self.log.append(f"load {job.model_id}")
            self._loaded(job.model_id)
            self.expected[job.model_id] = self.now() + EXPECTED_S
        job.done.set()

    def _refusal(self, model_id: str) -> dict[str, Any] | None:
        told = {"message": f"no room for {model_id}", "code": "insufficient_vram"}
        if self.out_of_memory[model_id]:
            self.out_of_memory[model_id] -= 1
            return told
        if self.sizes[model_id] > self.free_mb:
            return told | {"required_mb": self.sizes[model_id], "free_mb": self.free_mb}
        return None

    async def _unload(self, request: Request) -> HTTPResponse:
        asked = orjson.loads(request.body)
        self.unloads.append(asked)
        model_id, since = asked["model_id"], asked.get("if_idle_since")
        busy = self.in_flight[model_id] + self.busy_elsewhere[model_id]
        if self._status(model_id) != "loaded":
            return web.json({"error": f"model '{model_id}' not found on any harness"}, status=404)
        expected = self.now() < self.expected.get(model_id, 0)
        if since is not None and (busy or expected or self.used[model_id] > since):
            return web.json({"error": {"message": "it is in use", "code": "model_busy"}}, status=409)
        if busy:
            self.cut_off.append(model_id)
        self.log.append(f"unload {model_id}")
        self._unloaded(model_id)
        return web.json({"status": "unloaded"})

    async def _chat(self, request: Request) -> HTTPResponse | None:
        model_id = orjson.loads(request.body)["model"]
        if self.models[model_id].get("yields"):
            raise errors.unavailable(f"model '{model_id}' gives way to another one")
        if self._status(model_id) == "loaded":
            self.expected.pop(model_id, None)
            self.log.append(f"serve {model_id}")
        self.in_flight[model_id] += 1
        try:
            await self.gate.wait()
            return await super()._chat(request)
        finally:
            self.in_flight[model_id] -= 1
            self.used[model_id] = self.now()

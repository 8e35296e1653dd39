"""What is on disk: the models of `models_dir` and of the Hugging Face cache, scanned in a thread, listed from memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from cortex.config.neuron import NeuronConfig
from cortex.neuron.models.source import LocalModel, Scanner
from cortex.tasks import Tasks

RESCAN_S = 15.0
log = logging.getLogger(__name__)


class Library:
    """The last scan. Reading `models` never waits; `rescan` looks again at once (a load does, so that a copied file is found)."""

    def __init__(self, config: NeuronConfig) -> None:
        self.models: tuple[LocalModel, ...] = ()
        self._scanner = Scanner(models_dir=config.models_dir, hf_cache=config.harness.candle.hf_cache)
        self._told: set[str] = set()
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Library]:
        tasks = Tasks("library")
        await self.rescan()
        tasks.start("rescan", self._rescan_for_ever())
        try:
            yield self
        finally:
            await tasks.aclose()

    async def _rescan_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RESCAN_S)
            await self.rescan()

    async def rescan(self) -> tuple[LocalModel, ...]:
        async with self._lock:
            self.models, problems = await asyncio.to_thread(self._scanner.scan)
        for problem in problems:
            if problem not in self._told:
                log.warning("%s", problem)
        self._told = set(problems)
        return self.models

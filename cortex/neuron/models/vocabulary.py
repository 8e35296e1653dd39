"""Engines that know a model's vocabulary and template, and none of its weights: they count the tokens of models that are not loaded.

One is started when somebody asks (some 0.5 s, 60 MB), kept for who asks next, and ended when nobody does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cortex import errors
from cortex.neuron.engine.process import EngineFailed, EngineProcess
from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.gguf import GGUFError, write_vocabulary
from cortex.neuron.harness.base import Harness
from cortex.neuron.models.source import LocalModel
from cortex.tasks import Tasks, cancel

MAX_ENGINES = 2  # at once; the one whose last use is longest ago makes room
IDLE_S = 120.0
START_S = 30.0
CONTEXT = 256  # nothing is generated: the engine's own check of its context decodes one token
log = logging.getLogger(__name__)


class _Key(NamedTuple):
    """What decides how a text is split and a prompt is made. The size notices a file that was replaced."""

    file: Path
    size_bytes: int
    template: str | None


@dataclass(eq=False)
class _Vocabulary:
    engine: asyncio.Task[EngineProcess]
    users: int = 0
    last_used: float = field(default_factory=time.monotonic)

    @property
    def has_ended(self) -> bool:
        return self.engine.done() and (self.engine.exception() is not None or self.engine.result().memory_mb() is None)


class Vocabularies:
    """The vocabulary engines of this neuron; their files and sockets lie in `runtime`."""

    def __init__(self, runtime: Path) -> None:
        self._runtime = runtime
        self._numbers = itertools.count(1)
        self._tasks = Tasks("vocabularies")
        self._known: dict[_Key, _Vocabulary] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Vocabularies]:
        self._tasks.start("idle", self._end_idle_ones())
        try:
            yield self
        finally:
            await self._tasks.aclose()
            for key in list(self._known):
                await self._end(key)

    @contextlib.asynccontextmanager
    async def use(self, model: LocalModel, harness: Harness, template: str | None) -> AsyncIterator[EngineProcess]:
        """An engine that tokenizes as `model` does. Raises CortexError when there can be none."""
        if harness.name != "llamacpp":
            raise errors.unavailable(f"the tokens of '{model.id}' can be counted only while it is loaded")
        key = _Key(model.path, model.size_bytes, template)
        vocabulary = await self._vocabulary(key, model.id)
        vocabulary.users += 1
        try:
            yield await self._started(key, vocabulary, model.id)
        finally:
            vocabulary.users -= 1
            vocabulary.last_used = time.monotonic()

    async def _started(self, key: _Key, vocabulary: _Vocabulary, model_id: str) -> EngineProcess:
        try:
            return await asyncio.shield(vocabulary.engine)  # whoever leaves does not end it for the others
        except (EngineFailed, GGUFError, OSError) as error:
            if self._known.get(key) is vocabulary:
                del self._known[key]
            log.warning("no vocabulary of %s: %s", model_id, error)
            raise errors.unavailable(f"the tokens of '{model_id}' can be counted only while it is loaded") from error

    async def _vocabulary(self, key: _Key, model_id: str) -> _Vocabulary:
        if (known := self._known.get(key)) and known.has_ended:
            await self._end(key)
        if key not in self._known:
            await self._make_room()
        if key not in self._known:  # nobody else started it meanwhile
            starting = self._tasks.start(f"vocabulary of {model_id}", self._start(key, model_id))
            self._known[key] = _Vocabulary(starting)
        return self._known[key]

    async def _start(self, key: _Key, model_id: str) -> EngineProcess:
        number = next(self._numbers)
        file = self._runtime / f"vocabulary-{number}.gguf"
        try:
            await asyncio.to_thread(write_vocabulary, key.file, file)
            return await EngineProcess.start(_spec(model_id, file, key.template), deadline_s=START_S)
        finally:
            file.unlink(missing_ok=True)  # what the engine maps stays until it ends

    async def _make_room(self) -> None:
        while len(self._known) >= MAX_ENGINES and (key := self._longest_idle()):
            await self._end(key)

    async def _end_idle_ones(self) -> None:
        while True:
            await asyncio.sleep(IDLE_S / 4)
            while (key := self._longest_idle()) and time.monotonic() - self._known[key].last_used > IDLE_S:
                await self._end(key)

    def _longest_idle(self) -> _Key | None:
        """Asked anew before each end: while one goes, another may have come into use."""
        idle = [key for key, each in self._known.items() if not each.users]
        return min(idle, key=lambda key: self._known[key].last_used, default=None)

    async def _end(self, key: _Key) -> None:
        vocabulary = self._known.pop(key, None)
        if vocabulary is None:
            return
        starting = vocabulary.engine
        if not starting.done():
            await cancel(starting)
        if not starting.cancelled() and starting.exception() is None:
            await starting.result().stop()


def _spec(model_id: str, file: Path, template: str | None) -> EngineSpec:
    """No GPU: nothing is computed, and a context there would cost memory."""
    return EngineSpec(
        harness="llamacpp",
        alias=model_id,
        model_path=str(file),
        socket_path=str(file.with_suffix(".sock")),
        context=CONTEXT,
        parallel=1,
        batch=64,
        chat_template=template,
        env={"CUDA_VISIBLE_DEVICES": ""},
    )

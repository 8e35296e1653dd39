"""The models that a host loads by itself: one after the other, after the port is open, told on `/health` as `activation`.

A failure never stops the neuron. One that time can mend (a hub out of reach, memory still taken) is tried again, with
growing pauses; any other is final (upstream-facts B.3 and C.5.80).
"""

from __future__ import annotations

import asyncio
import logging

from cortex.config.neuron import DefaultModel
from cortex.errors import CortexError
from cortex.neuron.models.registry import Registry
from cortex.wire.fleet import Activation, FailedActivation

PAUSES_S = (10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
log = logging.getLogger(__name__)


class DefaultModels:
    """The default models of one neuron. `activation` is a frozen snapshot for readers; `run` is its only writer."""

    def __init__(self, registry: Registry, models: tuple[DefaultModel, ...]) -> None:
        self._registry = registry
        self._models = models
        self.activation = Activation(
            state="pre_warming" if models else "ready", pending=tuple(model.model_id for model in models)
        )

    async def run(self) -> None:
        """Load them all, then try again what may still succeed; not while the neuron is out of service."""
        await self._registry.in_service()
        waiting = await self._round(self._models)
        self._tell(state="ready")
        for pause_s in PAUSES_S:
            if not waiting:
                return
            await asyncio.sleep(pause_s)
            await self._registry.in_service()
            waiting = await self._round(waiting)

    async def _round(self, models: tuple[DefaultModel, ...]) -> tuple[DefaultModel, ...]:
        """Try each once; returns those that failed and may succeed later."""
        return tuple([model for model in models if await self._try(model)])

    async def _try(self, model: DefaultModel) -> bool:
        """Load one; True when it failed for a reason that time can mend."""
        now = self.activation
        self._tell(
            pending=tuple(name for name in now.pending if name != model.model_id),
            in_progress=model.model_id,
            failed=tuple(failed for failed in now.failed if failed.model_id != model.model_id),
        )
        error = await self._load(model)
        if error is None:
            self._tell(in_progress=None, completed=(*self.activation.completed, model.model_id))
            return False
        log.warning("default model %s could not be loaded: %s", model.model_id, error.message)
        self._tell(
            in_progress=None,
            failed=(*self.activation.failed, FailedActivation(model_id=model.model_id, error=error.message)),
        )
        return error.retry_after is not None

    async def _load(self, model: DefaultModel) -> CortexError | None:
        try:
            record = self._registry.load(model.load_request())
        except CortexError as error:
            return error
        while not (await record.wait(60.0)).finished:
            pass
        return record.failure

    def _tell(self, **fields: object) -> None:
        self.activation = self.activation.model_copy(update=fields)

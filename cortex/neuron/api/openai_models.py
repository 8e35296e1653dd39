"""`GET /v1/models` of a single neuron, so that OpenAI clients can use it without a gateway."""

from __future__ import annotations

from typing import Any

from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.neuron.models.registry import Registry
from cortex.neuron.models.slot import Slot
from cortex.wire.fleet import ModelStatus


class ModelsApi:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def list(self, _request: Request) -> HTTPResponse:
        data = [_entry(slot) for slot in self._registry.slots.values() if slot.status is not ModelStatus.failed]
        return web.json({"object": "list", "data": data})

    async def one(self, _request: Request, model_id: str) -> HTTPResponse:
        slot = self._registry.slots.get(model_id)
        if slot is None or slot.status is ModelStatus.failed:
            raise errors.model_not_found(model_id, "on this neuron")
        return web.json(_entry(slot))


def _entry(slot: Slot) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": slot.id,
        "object": "model",
        "created": int(slot.job.snapshot.started_at),
        "owned_by": "cortex",
        "loaded": slot.loaded is not None,
    }
    if slot.loaded:
        entry |= {"capabilities": slot.loaded.capabilities, "context_length": slot.loaded.spec.context}
    return entry

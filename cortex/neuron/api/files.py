"""`/models/{id}/files`: what this neuron gives of its models' files, and what it takes (wire/sync.py)."""

from __future__ import annotations

from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.neuron.models.loading import Loader
from cortex.neuron.models.registry import Registry
from cortex.neuron.models.source import LocalModel, Resolved, resolve
from cortex.neuron.sync.policy import Policy
from cortex.neuron.sync.receptions import Receptions
from cortex.neuron.sync.shelf import Shelf
from cortex.wire.sync import Hashing, Receive, parse_content_range, parse_range

WAIT_S = 10.0  # for files to be hashed, before it is said how far they are


class FilesApi:
    def __init__(
        self, policy: Policy, registry: Registry, loader: Loader, shelf: Shelf, receptions: Receptions
    ) -> None:
        self._policy = policy
        self._registry = registry
        self._loader = loader
        self._shelf = shelf
        self._receptions = receptions

    async def offer(self, _request: Request, model_id: str) -> HTTPResponse:
        self._policy.check_offers()
        told = await self._shelf.offer(self._model(model_id), WAIT_S)
        return web.json(told.model_dump(), status=202 if isinstance(told, Hashing) else 200)

    async def piece(self, request: Request, model_id: str, sha256: str) -> HTTPResponse:  # noqa: ARG002  the sha256 says it all
        self._policy.check_offers()
        span = parse_range(request.headers.get("range"))
        if span is None or span[1] - span[0] >= self._receptions.piece_bytes:
            most = self._receptions.piece_bytes
            raise errors.invalid_request(
                f"say which piece, as in Range: bytes=0-{most - 1}, the largest", param="range"
            )
        piece = await self._shelf.piece(sha256, *span)
        headers = {
            "content-range": f"bytes {span[0]}-{span[0] + len(piece.data) - 1}/{piece.size}",
            "content-digest": piece.digest,
        }
        return HTTPResponse(piece.data, status=206, headers=headers, content_type="application/octet-stream")

    async def begin(self, request: Request, model_id: str) -> HTTPResponse:
        self._policy.check_accepts()
        if self._registry.closed:
            raise errors.shutting_down()
        told = await self._receptions.begin(model_id, web.parse(Receive, web.json_object(request)))
        return web.json(told.model_dump(mode="json", exclude_none=True), status=202)

    async def put(self, request: Request, model_id: str, sha256: str) -> HTTPResponse:
        self._policy.check_accepts()
        span = parse_content_range(request.headers.get("content-range"))
        if span is None:
            raise errors.invalid_request(
                "say which piece it is, as in Content-Range: bytes 0-99/1000", code="bad_piece"
            )
        digest = request.headers.get("content-digest", "")
        told = await self._receptions.take(model_id, sha256, span, request.body, digest)
        return web.json(told.model_dump())

    def _model(self, model_id: str) -> LocalModel:
        """As it is loaded, else as it is on disk. Raises CortexError when it is neither."""
        slot = self._registry.slots.get(model_id)
        if slot and slot.loaded:
            return slot.loaded.model
        found = resolve(model_id, None, self._loader.library.models, can_fetch=False)
        if not isinstance(found, Resolved):
            raise errors.model_not_found(model_id, "on this neuron")
        return found.model

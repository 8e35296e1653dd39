"""`/v1/models`: everything that a neuron has, is loading, or could serve by catalogue, devices and files.

A model is listed exactly when a request for it would not be "not found". What is unknown is left out, never zero.
The answer has what OpenAI's list has, what Anthropic's has, and ours. Only `capabilities` is another thing for the two:
who sends `anthropic-version` is told null. Codex asks with `client_version` and wants a catalogue of its own form in
`models`: an empty one leaves what it knows of models as it is, where an entry would replace its own instructions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.gateway.api.gate import principal_of
from cortex.gateway.api.listing import Listing, Version
from cortex.gateway.api.paging import page_of
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.live import Live

Entries = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Written:
    """A whole listing as bytes, and of which state of the fleet it is."""

    version: Version
    body: bytes


class ModelsApi:
    def __init__(self, fleet: Fleet, live: Live) -> None:
        self._live = live
        self._listing = Listing(fleet, live)
        self._written: dict[bool, _Written] = {}

    async def list(self, request: Request) -> HTTPResponse:
        """All of them; a page with `limit`, `after_id` and `before_id`."""
        if request.args or principal_of(request):
            return web.json_bytes(self._write(request))
        anthropic, version = "anthropic-version" in request.headers, self._listing.version
        known = self._written.get(anthropic)
        if known is None or known.version != version:  # seldom, and in front of a thousand hosts it is ten megabytes
            known = self._written[anthropic] = _Written(version, self._write(request))
        return web.json_bytes(known.body)

    def _write(self, request: Request) -> bytes:
        entries, more = page_of(self.entries(request), request.args)
        ends = {"first_id": entries[0]["id"], "last_id": entries[-1]["id"]} if entries else {}
        edges = {"has_more": more, "first_id": None, "last_id": None} | ends
        codex: dict[str, Any] = {"models": []} if "client_version" in request.args else {}
        return orjson.dumps({"object": "list", "data": entries, **edges, **codex})

    async def retrieve(self, request: Request, model_id: str) -> HTTPResponse:
        entry = next((entry for entry in self.entries(request) if entry["id"] == model_id), None)
        if entry is None:
            raise errors.model_not_found(model_id)
        return web.json(entry)

    def entries(self, request: Request) -> Entries:
        """What the request's key may use, in its client's shape."""
        in_shape = {"capabilities": None} if "anthropic-version" in request.headers else {}
        return [entry | in_shape for entry in self._allowed(request)]

    def able(self, request: Request, capability: str) -> str | None:
        """A model with this capability that the request's key may use; one that is loaded, if any is."""
        able = [entry for entry in self._allowed(request) if capability in (entry["capabilities"] or ())]
        best = next((entry for entry in able if entry["loaded"]), able[0] if able else None)
        return str(best["id"]) if best else None

    def _allowed(self, request: Request) -> Entries:
        catalogue, principal = self._live.catalogue, principal_of(request)
        return [
            entry
            for entry in self._listing.entries()
            if principal is None or principal.may_use(entry["id"], catalogue.resolve(entry["id"]))
        ]

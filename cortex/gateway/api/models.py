"""`/v1/models`: everything that a neuron has, is loading, or could serve by catalogue, devices and files.

A model is listed exactly when a request for it would not be "not found". What is unknown is left out, never zero.
The answer has what OpenAI's list has, what Anthropic's has, and ours. Only `capabilities` is another thing for the two:
who sends `anthropic-version` is told null.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.config.catalogue import ANY, Catalogue, Profile
from cortex.gateway.api.gate import principal_of
from cortex.gateway.api.paging import page_of
from cortex.gateway.fleet.state import Fleet, NeuronView
from cortex.gateway.live import Live
from cortex.gateway.routing.feasible import feasible
from cortex.gateway.routing.snapshot import FleetSnapshot
from cortex.wire.fleet import ModelEntry, ModelStatus

Entries = list[dict[str, Any]]


class ModelsApi:
    def __init__(self, fleet: Fleet, live: Live) -> None:
        self._fleet = fleet
        self._live = live
        self._created = int(time.time())  # nobody knows when a model was made, and clients want a number

    async def list(self, request: Request) -> HTTPResponse:
        """All of them; a page with `limit`, `after_id` and `before_id`."""
        entries, more = page_of(self._entries(request), request.args)
        ends = {"first_id": entries[0]["id"], "last_id": entries[-1]["id"]} if entries else {}
        edges = {"has_more": more, "first_id": None, "last_id": None} | ends
        return web.json({"object": "list", "data": entries, **edges})

    async def retrieve(self, request: Request, model_id: str) -> HTTPResponse:
        entry = next((entry for entry in self._entries(request) if entry["id"] == model_id), None)
        if entry is None:
            raise errors.model_not_found(model_id)
        return web.json(entry)

    def _entries(self, request: Request) -> Entries:
        """What the request's key may use, in its client's shape."""
        catalogue, principal = self._live.catalogue, principal_of(request)
        in_shape = {"capabilities": None} if "anthropic-version" in request.headers else {}
        return [
            entry | in_shape
            for entry in model_entries(self._fleet.views, self._fleet.snapshot, catalogue, created=self._created)
            if principal is None or principal.may_use(entry["id"], catalogue.resolve(entry["id"]))
        ]


def model_entries(
    views: Iterable[NeuronView], snapshot: FleetSnapshot, catalogue: Catalogue, *, created: int
) -> list[dict[str, Any]]:
    """Every model by id, then every alias as a mirror of its target."""
    healthy = [view for view in views if view.healthy]
    ids = {model_id for view in healthy for model_id in view.models} | {profile.id for profile in catalogue.models}
    entries = {}
    for model_id in sorted(ids):
        profile = catalogue.profile(model_id)
        places = {view.name: view.models[model_id] for view in healthy if model_id in view.models}
        able = [node for node in snapshot.nodes if feasible(node, model_id, profile)]
        if places or able:
            feasible_on = sorted({node.name for node in able if node.ready} | set(places))
            entries[model_id] = _entry(model_id, profile, places, feasible_on, catalogue, created)
    mirrors = [
        entries[alias.model[0]] | {"id": name, "display_name": alias.display_name or name}
        for name, alias in sorted(catalogue.aliases.items())
        if alias.model[0] in entries and name != ANY
    ]
    return [*entries.values(), *mirrors]


def _entry(
    model_id: str,
    profile: Profile | None,
    places: dict[str, ModelEntry],
    feasible_on: list[str],
    catalogue: Catalogue,
    created: int,
) -> dict[str, Any]:
    context = _context(profile, places.values())
    capabilities = sorted({word for place in places.values() for word in place.capabilities})
    known = {
        "id": model_id,
        "object": "model",
        "type": "model",
        "created": created,
        "created_at": datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "owned_by": "cortex",
        "loaded": any(place.status == ModelStatus.loaded for place in places.values()),
        "feasible_on": feasible_on,
        "locations": [_location(node, place) for node, place in sorted(places.items())],
        "capabilities": capabilities or list(profile.capabilities if profile else ()),
        "context_length": context,
        "max_model_len": context,
        "max_input_tokens": context,
        "cost": profile.cost.model_dump(exclude_none=True) if profile and profile.cost else None,
        "aliases": list(catalogue.aliases_of(model_id)),
        "display_name": (profile and profile.display_name) or model_id,
    }
    return {key: value for key, value in known.items() if value is not None}


def _location(node: str, place: ModelEntry) -> dict[str, Any]:
    estimate = place.vram_used_mb if place.vram_used_mb is not None else place.vram_estimate_mb
    location = {"node": node, "status": place.status, "vram_estimate_mb": estimate}
    return {key: value for key, value in location.items() if value is not None}


def _context(profile: Profile | None, places: Iterable[ModelEntry]) -> int | None:
    """What fits wherever a request goes: the least over the loaded replicas, else over the files, else what the catalogue says."""
    told = [(place, (place.limit and place.limit.context) or place.context_length) for place in places]
    loaded = [context for place, context in told if context and place.status == ModelStatus.loaded]
    if known := loaded or [context for _, context in told if context]:
        return min(known)
    if profile is None:
        return None
    return profile.limit.context if profile.limit else profile.context

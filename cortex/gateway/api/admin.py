"""Loads and unloads by hand. The bodies are a neuron's own, with `node` to say where; without it the gateway places."""

from __future__ import annotations

from pydantic import Field
from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.config.catalogue import Profile
from cortex.gateway.fleet.lifecycle import Lifecycle
from cortex.gateway.fleet.loads import Loads
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.live import Live
from cortex.gateway.routing.decisions import Candidate
from cortex.gateway.routing.eviction import Circumstances
from cortex.gateway.routing.feasible import fetchable
from cortex.gateway.routing.placement import Search, candidates
from cortex.gateway.routing.route import why_not
from cortex.gateway.routing.snapshot import FleetSnapshot
from cortex.gateway.routing.types import COMING, Node
from cortex.wire.fleet import LoadRequest, ModelStatus, UnloadRequest


class AdminLoad(LoadRequest):
    """A load request. What it does not say is taken from the model's profile."""

    node: str | None = Field(None, min_length=1)


class AdminUnload(UnloadRequest):
    node: str | None = Field(None, min_length=1)


class AdminApi:
    def __init__(self, fleet: Fleet, lifecycle: Lifecycle, loads: Loads, live: Live) -> None:
        self._fleet = fleet
        self._lifecycle = lifecycle
        self._loads = loads
        self._live = live

    async def load(self, request: Request) -> HTTPResponse:
        """`{"status": "loaded", "node"}` when it is; with `"wait": false` 202 with the job at once."""
        asked = web.parse(AdminLoad, web.json_object(request))
        model_id = self._live.catalogue.resolve(asked.model_id)
        if nodes := self._with_status(model_id, {ModelStatus.loaded}, asked.node):
            return web.json({"status": "loaded", "node": nodes[0]})
        candidate = self._candidate(model_id, asked)
        job = await self._lifecycle.load_on(candidate)
        if job and not asked.wait:
            told = job.model_dump(mode="json", exclude_none=True)
            return web.json({"status": "loading", "node": candidate.node, "job": told}, status=202)
        if job:
            await self._loads.finish(candidate.node, job)
        return web.json({"status": "loaded", "node": candidate.node})

    async def unload(self, request: Request) -> HTTPResponse:
        """Unload a model from one node, or from every one that has it in memory."""
        asked = web.parse(AdminUnload, web.json_object(request))
        model_id = self._live.catalogue.resolve(asked.model_id)
        nodes = self._with_status(model_id, {ModelStatus.loaded, *COMING}, asked.node)
        if not nodes:
            raise errors.model_not_found(model_id, f"in memory {_on(asked.node)}")
        for node in nodes:
            await self._loads.unload(node, UnloadRequest(model_id=model_id, if_idle_since=asked.if_idle_since))
        return web.json({"status": "unloaded", "nodes": nodes})

    def _with_status(self, model_id: str, wanted: set[ModelStatus], node: str | None) -> list[str]:
        """The ready nodes, or the one that was asked for, where the model is in one of these states."""
        return [
            each.name
            for each in self._nodes(node)
            if each.ready and model_id in each.models and each.models[model_id].status in wanted
        ]

    def _nodes(self, name: str | None) -> tuple[Node, ...]:
        nodes = self._fleet.snapshot.nodes
        named = tuple(node for node in nodes if name in (None, node.name))
        if name is not None and not named:
            known = ", ".join(node.name for node in nodes) or "none"
            raise errors.not_found(f"there is no node '{name}'; known are: {known}")
        return named

    def _candidate(self, model_id: str, asked: AdminLoad) -> Candidate:
        """The node that loads it already, or the best one. An operator may name a node against `pinned_on`, and a model without a profile."""
        listed = self._live.catalogue.profile(model_id)
        profile = listed or Profile(id=model_id, source=asked.source)
        if asked.node:
            profile = profile.model_copy(update={"pinned_on": ()})
        fleet, catalogue = FleetSnapshot.of(self._nodes(asked.node)), self._live.catalogue.with_profile(profile)
        able = candidates(Search(model_id, catalogue, fleet, Circumstances(in_flight=self._fleet.in_flight)))
        if not able:
            exists = listed is not None or fetchable(profile)
            raise why_not(model_id, catalogue if exists else self._live.catalogue, fleet).error
        coming = self._with_status(model_id, set(COMING), asked.node)
        best = next((candidate for candidate in able if candidate.node in coming), able[0])
        said = asked.model_dump(include=asked.model_fields_set - {"model_id", "node", "wait"})
        return Candidate(best.node, best.request.model_copy(update=said))


def _on(node: str | None) -> str:
    return f"on node '{node}'" if node else "on any node"

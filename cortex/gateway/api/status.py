"""How the gateway and its fleet are: for load balancers, for people, for the command line."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.gateway.fleet.client import NeuronClient, NeuronError
from cortex.gateway.fleet.membership import Membership
from cortex.gateway.fleet.state import Fleet, NeuronView
from cortex.gateway.live import Live

MAX_JOB_WAIT_S = 60.0


class StatusApi:
    def __init__(
        self,
        fleet: Fleet,
        clients: Mapping[str, NeuronClient],
        membership: Membership,
        live: Live,
        version: Mapping[str, Any],
    ) -> None:
        self._fleet = fleet
        self._clients = clients
        self._membership = membership
        self._live = live
        self._version = version

    async def health(self, _request: Request) -> HTTPResponse:
        """Always 200: it speaks of the gateway, which is up, and says how its fleet is."""
        views = self._fleet.views
        healthy = sum(view.healthy for view in views)
        return web.json({"status": _condition(self._fleet), "nodes": {"healthy": healthy, "total": len(views)}})

    async def version(self, _request: Request) -> HTTPResponse:
        return web.json(self._version)

    async def status(self, _request: Request) -> HTTPResponse:
        """The fleet in full: what the command line shows."""
        now = time.time()
        views, joined = self._fleet.views, self._membership.joined
        return web.json(
            {
                "status": _condition(self._fleet),
                "version": self._version,
                "config": self._live.told(),
                "nodes": [_node(view, now) | {"joined": view.name in joined} for view in views],
            }
        )

    async def job(self, request: Request, job_id: str) -> HTTPResponse:
        """A load or a copy, wherever it runs, or at `?node=`; `?wait=10` waits up to so many seconds for its end."""
        wait_s, node = _wait_of(request), request.args.get("node")
        healthy = [view for view in self._fleet.views if view.healthy and node in (None, view.name)]
        healthy.sort(key=lambda view: all(entry.job_id != job_id for entry in view.models.values()))
        for view in healthy:
            try:
                job = await self._clients[view.name].job(job_id, wait_s=wait_s)
            except NeuronError:
                continue
            return web.json(job.model_dump(mode="json", exclude_none=True) | {"node": view.name})
        raise errors.not_found(f"there is no job '{job_id}' on any node")


def _condition(fleet: Fleet) -> str:
    """`degraded`: no neuron answers. `impaired`: some do not, or a model failed."""
    healthy = [view.name for view in fleet.views if view.healthy]
    if not healthy:
        return "degraded"
    failed = any(fleet.snapshot.by_name[name].failing for name in healthy)
    return "impaired" if failed or len(healthy) < len(fleet.views) else "ok"


def _node(view: NeuronView, now: float) -> dict[str, Any]:
    discovery, health = view.discovery, view.health
    node = {
        "name": view.name,
        "endpoint": view.endpoint,
        "healthy": view.healthy,
        "draining": health.draining if health else None,
        "cut_off": view.cut_off,
        "circuit": view.circuit.name,
        "misses": view.misses,
        "problem": view.problem,
        "last_poll_age_secs": None if view.last_poll is None else round(now - view.last_poll, 1),
        "hostname": discovery.hostname if discovery else None,
        "version": discovery.version if discovery else None,
        "cpu_model": discovery.cpu_model if discovery else None,
        "cpu_cores": discovery.cpu_cores if discovery else None,
        "harnesses": list(discovery.harnesses) if discovery else None,
        "memory_total_mb": discovery.memory_total_mb if discovery else None,
        "memory_free_mb": health.memory_free_mb if health else None,
        "disk_free_mb": health.disk_free_mb if health else None,
        "devices": _devices(view),
        "models": _models(view),
    }
    return {key: value for key, value in node.items() if value is not None}


def _devices(view: NeuronView) -> list[dict[str, Any]]:
    now = {device.index: device.model_dump(exclude_none=True) for device in view.health.devices} if view.health else {}
    constant = view.discovery.devices if view.discovery else ()
    return [device.model_dump(exclude_none=True) | now.get(device.index, {}) for device in constant]


def _models(view: NeuronView) -> list[dict[str, Any]]:
    figures = {model.id: model for model in view.health.models} if view.health else {}
    listed = []
    for _, entry in sorted(view.models.items()):
        told = entry.model_dump(mode="json", exclude_none=True)
        if figure := figures.get(entry.id):
            told |= {"in_flight": figure.in_flight, "queue_depth": figure.queue_depth}
        listed.append(told)
    return listed


def _wait_of(request: Request) -> float:
    try:
        seconds = float(request.args.get("wait", "0"))
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds):
        raise errors.invalid_request("wait must be a number of seconds", param="wait")
    return min(max(seconds, 0.0), MAX_JOB_WAIT_S)

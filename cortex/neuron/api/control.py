"""Discovery, health, models, jobs, version, metrics: read from memory, so that they answer at once while models work."""

from __future__ import annotations

import math
import time

from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.neuron.api import views
from cortex.neuron.metrics import Metrics
from cortex.neuron.models.activation import DefaultModels
from cortex.neuron.models.loading import Loader
from cortex.neuron.models.registry import Registry
from cortex.neuron.service import Service
from cortex.neuron.sync.policy import Policy
from cortex.version import version_info
from cortex.wire.fleet import KeepRequest, LoadRequest, UnloadRequest, YieldRequest

MAX_JOB_WAIT_S = 60.0  # a long poll, shorter than the idle time-outs of proxies


class ControlApi:
    """Handlers of one neuron's control plane; the routes are in `neuron.app`."""

    def __init__(
        self,
        loader: Loader,
        registry: Registry,
        service: Service,
        defaults: DefaultModels,
        metrics: Metrics,
        policy: Policy,
        *,
        port: int,
        scheme: str = "http",
    ) -> None:
        self._loader = loader
        self._registry = registry
        self._service = service
        self._defaults = defaults
        self._metrics = metrics
        self._policy = policy
        self.port = port
        self._scheme = scheme
        self._started = time.monotonic()

    async def discovery(self, _request: Request) -> HTTPResponse:
        return web.json(views.discovery(self._loader, self._policy))

    async def health(self, _request: Request) -> HTTPResponse:
        uptime_s = int(time.monotonic() - self._started)
        return web.json(views.health(self._loader, self._registry, self._defaults.activation, uptime_s=uptime_s))

    async def models(self, request: Request) -> HTTPResponse:
        """A bare array, as in the first generation: what is in memory or on its way; with `?all=true` also what is on disk and what failed."""
        everything = request.args.get("all", "false").lower() in ("1", "true", "yes")
        return web.json(views.models(self._loader, self._registry, everything=everything))

    async def endpoint(self, _request: Request, model_id: str) -> HTTPResponse:
        if model_id not in self._registry.slots:
            raise errors.invalid_request(
                f"model '{model_id}' not loaded", code="model_not_found", status=404, param="model"
            )
        return web.json({"url": f"{self._scheme}://localhost:{self.port}"})

    async def load(self, request: Request) -> HTTPResponse:
        """`{"status": "loaded"}` when it is; with `"wait": false` 202 and the job at once. The load goes on when the asker leaves."""
        asked = web.parse(LoadRequest, web.json_object(request))
        record = self._registry.load(asked)
        if not asked.wait and not record.snapshot.finished:
            return web.json({"status": "loading", "job": record.snapshot.model_dump(exclude_none=True)}, status=202)
        while not (job := await record.wait(MAX_JOB_WAIT_S)).finished:
            pass
        if record.failure:
            raise record.failure.again()
        return web.json({"status": "loaded", "job_id": job.id, "notes": job.notes})

    async def unload(self, request: Request) -> HTTPResponse:
        body = web.json_object(request)
        if "model_id" not in body:
            raise errors.invalid_request("missing model_id", code="missing_model_id", param="model_id")
        asked = web.parse(UnloadRequest, body)
        await self._registry.unload(asked.model_id, if_idle_since=asked.if_idle_since)
        return web.json({"status": "unloaded"})

    async def keep(self, request: Request) -> HTTPResponse:
        asked = web.parse(KeepRequest, web.json_object(request))
        self._registry.keep(asked.model_id, asked.ttl)
        return web.json({"status": "kept", "ttl": asked.ttl})

    async def give_way(self, request: Request) -> HTTPResponse:
        asked = web.parse(YieldRequest, web.json_object(request))
        self._registry.give_way(asked.model_id, asked.to, asked.seconds)
        return web.json({"status": "yielding", "seconds": asked.seconds})

    async def drain(self, _request: Request) -> HTTPResponse:
        """From now on nothing new is taken, until `undrain`, also after a restart; what runs and waits here already is finished."""
        return await self._drained(draining=True)

    async def undrain(self, _request: Request) -> HTTPResponse:
        return await self._drained(draining=False)

    async def _drained(self, *, draining: bool) -> HTTPResponse:
        await self._service.drain(on=draining)
        in_flight = sum(figures["in_flight"] + figures["queue_depth"] for figures in self._registry.health())
        return web.json({"draining": draining, "in_flight": in_flight})

    async def jobs(self, _request: Request) -> HTTPResponse:
        return web.json([job.model_dump(exclude_none=True) for job in self._registry.jobs.all()])

    async def job(self, request: Request, job_id: str) -> HTTPResponse:
        """One job; `?wait=10` waits up to so many seconds for its end."""
        record = self._registry.jobs.get(job_id)
        job = await record.wait(_wait_of(request)) if "wait" in request.args else record.snapshot
        return web.json(job.model_dump(exclude_none=True))

    async def version(self, _request: Request) -> HTTPResponse:
        return web.json(version_info())

    async def metrics(self, _request: Request) -> HTTPResponse:
        body, content_type = self._metrics.render()
        return HTTPResponse(body, content_type=content_type)


def _wait_of(request: Request) -> float:
    try:
        seconds = float(request.args.get("wait", "0"))
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds):
        raise errors.invalid_request("wait must be a number of seconds", param="wait")
    return min(max(seconds, 0.0), MAX_JOB_WAIT_S)

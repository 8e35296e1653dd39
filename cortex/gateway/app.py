"""The gateway's composition root: its parts, its routes, and the order in which they start and stop.

Start:  1. the fleet's view and the neurons' clients  2. polling, with a short wait for the first round
        3. the metrics listener  4. the listener for clients.
Stop:   1. new inference is refused with 503 `shutting_down`  2. what runs is drained, up to `drain_secs`
        3. what is left ends as `shutting_down`: streams with an error event, whoever waits for a load with 503
        4. the listeners close  5. polling and loads' followers end  6. connections to neurons close.
Loads that neurons have begun go on: they are the neurons' own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from sanic import Request, Sanic
from sanic.response import HTTPResponse

from cortex import web
from cortex.config.catalogue import Catalogue
from cortex.config.gateway import GatewayConfig
from cortex.config.listen import Listen
from cortex.gateway.api.admin import AdminApi
from cortex.gateway.api.dialects import dialect_routes
from cortex.gateway.api.gate import Gate
from cortex.gateway.api.joining import JoiningApi
from cortex.gateway.api.models import ModelsApi
from cortex.gateway.api.nodes import NodesApi
from cortex.gateway.api.plan import PlanApi
from cortex.gateway.api.push import PushApi
from cortex.gateway.api.status import StatusApi
from cortex.gateway.fleet.breakers import Breakers
from cortex.gateway.fleet.clients import Clients
from cortex.gateway.fleet.lifecycle import Lifecycle
from cortex.gateway.fleet.loads import Loads
from cortex.gateway.fleet.membership import Membership
from cortex.gateway.fleet.poller import Poller
from cortex.gateway.fleet.room import Rooms
from cortex.gateway.fleet.router import Router
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.fleet.sync import Sync
from cortex.gateway.fleet.upkeep import Upkeep
from cortex.gateway.keys.charges import Charges
from cortex.gateway.keys.ledger.desk import ledger_of
from cortex.gateway.live import Live
from cortex.gateway.metrics import CONTENT_TYPE, Metrics
from cortex.gateway.names import Names
from cortex.gateway.proxy.dispatch import Dispatcher
from cortex.gateway.proxy.opening import Opener
from cortex.gateway.proxy.tokens import Tokens
from cortex.gateway.reconfigure import Reconfiguration
from cortex.gateway.response_store import ResponseStore
from cortex.net import tls
from cortex.net.pool import Pool
from cortex.tasks import Tasks
from cortex.version import version_info

FIRST_ROUND_S = 1.0  # a gateway that has just started should know its fleet, but a hung neuron keeps nobody waiting
FAREWELL_S = 2.0  # for the last error events to reach their clients

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GatewayHandle:
    """A running gateway: the addresses that were bound, and how its configuration is replaced."""

    listen: Listen
    metrics_listen: Listen
    reconfiguration: Reconfiguration


@contextlib.asynccontextmanager
async def running(config: GatewayConfig, catalogue: Catalogue) -> AsyncIterator[GatewayHandle]:
    """A gateway for as long as the block lasts. Raises OSError when an address is taken."""
    settings = config.gateway
    _warn_of_dangling_aliases(catalogue)

    async with contextlib.AsyncExitStack() as held:
        # parts
        showing = tls.showing(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None
        pool = await held.enter_async_context(Pool())
        clients = await held.enter_async_context(Clients(config))
        tasks = Tasks("gateway")
        held.push_async_callback(tasks.aclose)
        fleet = Fleet(config.neurons, unhealthy_after=settings.unhealthy_after)
        live = Live(config, catalogue)
        poller = Poller(
            fleet,
            clients,
            tasks,
            interval_s=settings.poll_interval_secs,
            went_down=lambda view: pool.abandon(set(view.addresses.values())),
        )
        breakers = Breakers(fleet, clients, pool, tasks)
        membership = Membership(config, fleet, clients, poller)
        metrics = Metrics(fleet)

        router = Router(fleet, live)
        loads = Loads(clients, poller, metrics, lambda: live.config.eviction.defrag_after_cycles)
        rooms = Rooms(fleet, loads, poller, router, evicted=metrics.evicted)
        lifecycle = Lifecycle(router, rooms, loads, poller, fleet.changed, Sync(clients, poller, tasks), tasks, live)
        ledger = await held.enter_async_context(ledger_of(config.entitlements))
        charges = Charges(ledger, metrics)
        opener = Opener(router.decide, fleet, clients, poller, breakers, pool, metrics, live)
        dispatcher = Dispatcher(opener, router.decide, fleet, lifecycle, metrics, live, charges)

        tokens = Tokens(router.decide, fleet, clients, live, pool)
        names = Names(live, fleet)
        store = await held.enter_async_context(ResponseStore(lambda: live.config.responses).open())

        # routes
        models = ModelsApi(fleet, live)
        status = StatusApi(fleet, clients, membership, live, await asyncio.to_thread(version_info))
        admin = AdminApi(fleet, lifecycle, loads, live)
        nodes = NodesApi(fleet, clients, poller)
        joining = JoiningApi(membership, live)
        gate = Gate(live)
        app = web.new_app("gateway", max_body_bytes=settings.max_body_mb * 1024 * 1024)
        for method, path, handler in (
            *dialect_routes(dispatcher, tokens, names, charges, models, lifecycle, fleet, live, store),
            ("GET", "/v1/models", models.list),
            ("GET", "/v1/models/<model_id:path>", models.retrieve),
            ("GET", "/", status.health),
            ("HEAD", "/", status.health),
            ("GET", "/api/hello", status.health),
            ("HEAD", "/api/hello", status.health),
            ("GET", "/health", status.health),
            ("HEAD", "/health", status.health),
            ("GET", "/version", status.version),
            ("GET", "/status", status.status),
            ("GET", "/plan", PlanApi(router).plan),
            ("GET", "/openapi.json", _openapi),
            ("GET", "/jobs/<job_id:str>", status.job),
            ("POST", "/models/load", admin.load),
            ("POST", "/models/unload", admin.unload),
            ("POST", "/models/push", PushApi(fleet, lifecycle.sync, live).push),
            ("POST", "/nodes/<name:str>/drain", nodes.drain),
            ("POST", "/nodes/<name:str>/undrain", nodes.undrain),
        ):
            web.route(app, method, path, gate.guarding(path, handler))
        web.route(app, "POST", "/neurons/join", joining.join)  # neurons have a token of their own, no client's key
        web.route(app, "POST", "/neurons/leave", joining.leave)
        metrics_app = web.new_app("gateway-metrics", max_body_bytes=1024)
        web.route(metrics_app, "GET", "/metrics", functools.partial(_metrics, metrics))

        # start
        await poller.start(first_round_s=FIRST_ROUND_S)
        tasks.start("upkeep", Upkeep(fleet, live, router, rooms, loads, poller, lifecycle).run())
        tasks.start("joined neurons", membership.watch())
        metrics_listen = await held.enter_async_context(
            web.listening(metrics_app, settings.metrics_listen, showing if settings.metrics_tls else None)
        )
        listen = await held.enter_async_context(web.listening(app, settings.listen, showing))
        log.info(
            "gateway listens on %s, metrics on %s", listen, metrics_listen, extra={"fields": {"neurons": len(clients)}}
        )
        try:
            yield GatewayHandle(listen, metrics_listen, Reconfiguration(live, membership, app, showing))
        finally:
            # stop; the rest is closed by leaving the stack, last opened first
            await _stop(app, dispatcher, live.settings.drain_secs)


async def _stop(app: Sanic[Any, Any], dispatcher: Dispatcher, drain_s: float) -> None:
    """Steps 1 to 3."""
    dispatcher.closing = True
    if not await web.drained(app, drain_s):
        log.warning("requests are still running after %g s and are ended", drain_s)
        await dispatcher.end()
        await web.drained(app, FAREWELL_S)


async def _openapi(_request: Request) -> HTTPResponse:
    return web.json(await asyncio.to_thread(_description))


def _description() -> dict[str, Any]:
    from cortex.gateway.api.openapi import description  # seldom asked for, and no small import

    return description()


async def _metrics(metrics: Metrics, _request: Request) -> HTTPResponse:
    return HTTPResponse(metrics.exposition(), content_type=CONTENT_TYPE)


def _warn_of_dangling_aliases(catalogue: Catalogue) -> None:
    """An alias may name a model without a profile, when a neuron has its file; more often it is a typo."""
    known = {profile.id for profile in catalogue.models}
    for name, alias in catalogue.aliases.items():
        for target in alias.model:
            if target not in known:
                log.warning(
                    "alias '%s' names '%s', which has no profile: it works only where a neuron has that model",
                    name,
                    target,
                )

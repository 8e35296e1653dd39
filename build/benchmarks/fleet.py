"""`build/bench fleet`: what a gateway costs in front of a thousand hosts with a hundred models each."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import uvloop

from benchmarks import processes
from benchmarks.errors import CannotRun
from benchmarks.mock_fleet import KINDS, MODEL_MB, TOTAL_MB, address
from benchmarks.options import at_least_one
from benchmarks.ports import free_port
from cortex import pauses
from cortex.config.catalogue import Catalogue
from cortex.config.gateway import GatewayConfig, NeuronRef
from cortex.gateway.fleet.clients import Clients
from cortex.gateway.fleet.poller import Poller
from cortex.gateway.fleet.router import Router
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.live import Live
from cortex.tasks import Tasks

DESCRIPTION = f"""\
Starts hosts without models behind them on loopback addresses of their own, a fifth of them busy, and prints

  decision_ms_p99     processor time of the gateway's decisions, over views that real polling keeps changing: a model that
                      is loaded, one that is only on disk, one that has to be fetched, one that somebody has to leave for,
                      one for which there is no room, one that does not exist; the worst kind counts
  models_ms_p99       of GET /v1/models, as a client sees it
  poll_core_fraction  of one core that `cortex --role gateway` uses for polling, every host once in 10 s

{KINDS} different models, {TOTAL_MB} MiB a host.
"""
DECISIONS = 1000  # of each kind
LISTINGS = 200
PAUSE_S = 0.05  # between two listings: polls come in
SETTLE_S = 15.0  # until every host was asked once, and its models' addresses
POLLING_S = 30.0


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "fleet",
        help="decisions, listings and polling with a thousand hosts",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hosts", type=at_least_one, default=1000, help="default 1000")
    parser.add_argument("--models", type=at_least_one, default=100, help="on each host (default 100)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="cortex-bench-") as name:
        folder, port = Path(name), free_port()
        command = [sys.executable, "-m", "benchmarks.mock_fleet", str(port), str(args.hosts), str(args.models)]
        with processes.running(command, port=port, host=address(args.hosts - 1), log=folder / "fleet.log"):
            by_kind = uvloop.run(decisions(args.hosts, port))
            figures = {"decision_ms_p99": max(by_kind.values()), **gateway_figures(folder, args.hosts, port)}
    if args.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
        return 0
    for name, value in figures.items():
        print(f"{name:20}{value:10.3f}")
    print("decisions by kind:  " + ", ".join(f"{kind} {ms:.3f}" for kind, ms in by_kind.items()))
    return 0


def neurons(hosts: int, port: int) -> list[NeuronRef]:
    return [NeuronRef(name=f"host-{number:04}", endpoint=f"http://{address(number)}:{port}") for number in range(hosts)]


def catalogue() -> dict[str, Any]:
    """A few profiles; models that no host has yet: one that fits, one for which somebody leaves, one too large for all."""
    known = [{"id": f"org/model-{kind}", "context": 8192} for kind in range(0, KINDS, 5)]
    return {
        "models": [
            *known,
            {"id": "org/fetched", "vram_mb": MODEL_MB // 2},
            {"id": "org/displacing", "vram_mb": 2 * MODEL_MB},
            {"id": "org/huge", "vram_mb": 10 * TOTAL_MB},
        ]
    }


# ---- decisions, in this process


@contextlib.asynccontextmanager
async def polled(hosts: int, port: int) -> AsyncIterator[tuple[Fleet, Router]]:
    """A fleet that is being polled, as a gateway has it."""
    config = GatewayConfig(neurons=tuple(neurons(hosts, port)))
    tasks = Tasks("bench")
    async with Clients(config) as clients:
        fleet = Fleet(config.neurons, unhealthy_after=config.gateway.unhealthy_after)
        for ref in config.trusted_neurons:
            clients.add(ref)
        poller = Poller(fleet, clients, tasks, interval_s=config.gateway.poll_interval_secs, went_down=lambda _: None)
        await poller.start(first_round_s=60)
        if down := [view.name for view in fleet.views if not view.healthy]:
            raise CannotRun(f"{len(down)} of {hosts} hosts did not answer")
        try:
            yield fleet, Router(fleet, Live(config, Catalogue.model_validate(catalogue())))
        finally:
            await tasks.aclose()


async def decisions(hosts: int, port: int) -> dict[str, float]:
    """The 99th percentile of each kind of decision, in milliseconds. The collector runs as in a gateway's process."""
    pauses.shorten()
    pauses.settle()
    async with polled(hosts, port) as (fleet, router):
        chance = random.Random(1)
        loaded = sorted(fleet.snapshot.servable)
        on_disk = sorted({f"org/model-{kind}" for kind in range(KINDS)} - set(loaded)) or loaded
        kinds: dict[str, Callable[[], str]] = {
            "loaded": lambda: chance.choice(loaded),
            "on disk": lambda: chance.choice(on_disk),
            "fetched": lambda: "org/fetched",
            "displacing": lambda: "org/displacing",
            "no room": lambda: "org/huge",
            "unknown": lambda: "org/none",
        }
        taken: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(DECISIONS):
            for kind, pick in kinds.items():
                model, began = pick(), time.thread_time()  # not the wall's: who else is busy here says nothing about it
                router.decide(model)
                taken[kind].append((time.thread_time() - began) * 1000)
            await asyncio.sleep(0.01)  # polls come in
        return {kind: p99(each) for kind, each in taken.items()}


def p99(figures: list[float]) -> float:
    return quantiles(figures, n=100)[98]


# ---- listing and polling, of a gateway's process


def gateway_figures(folder: Path, hosts: int, port: int) -> dict[str, float]:
    with _gateway(folder, hosts, port) as (pid, http):
        time.sleep(SETTLE_S)
        listed = http.get("/v1/models").json()["data"]
        if len(listed) < KINDS // 2:
            raise CannotRun(f"the gateway lists {len(listed)} models, which are too few: is it still polling?")
        began, used = time.monotonic(), processes.cpu_seconds(pid)
        time.sleep(POLLING_S)
        fraction = (processes.cpu_seconds(pid) - used) / (time.monotonic() - began)
        return {
            "models_ms_p99": p99(listings_ms(http.base_url.host, http.base_url.port or 80)),
            "poll_core_fraction": fraction,
        }


def listings_ms(host: str, port: int) -> list[float]:
    """Each of some listings, over the standard library's client: ten megabytes keep httpx busier than the gateway."""
    with contextlib.closing(HTTPConnection(host, port, timeout=60)) as connection:
        return [_listing_ms(connection) for _ in range(LISTINGS)]


def _listing_ms(connection: HTTPConnection) -> float:
    time.sleep(PAUSE_S)
    began = time.perf_counter()
    connection.request("GET", "/v1/models")
    answer = connection.getresponse()
    if answer.status != 200 or not answer.read():
        raise CannotRun(f"the gateway answers {answer.status} to GET /v1/models")
    return (time.perf_counter() - began) * 1000


@contextlib.contextmanager
def _gateway(folder: Path, hosts: int, port: int) -> Iterator[tuple[int, httpx.Client]]:
    listen = free_port()
    config, models = folder / "cortex.toml", folder / "models.toml"
    entries = "\n".join(
        f'[[neurons]]\nname = "{ref.name}"\nendpoint = "{ref.endpoint}"' for ref in neurons(hosts, port)
    )
    config.write_text(
        f'models_config = "models.toml"\n[gateway]\nlisten = "127.0.0.1:{listen}"\nmetrics_listen = "127.0.0.1:0"\n{entries}\n'
    )
    models.write_text(
        "\n".join(
            "[[models]]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in profile.items())
            for profile in catalogue()["models"]
        )
    )
    command = [sys.executable, "-m", "cortex", "--role", "gateway", "--config", str(config)]
    with (
        processes.running(command, port=listen, log=folder / "gateway.log") as pid,
        httpx.Client(base_url=f"http://127.0.0.1:{listen}", timeout=60, trust_env=False) as http,
    ):
        yield pid, http

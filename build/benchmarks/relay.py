"""`build/bench relay`: how much of nginx's speed the gateway has, before the same upstream, on one core.

Rounds alternate within one run, and medians are compared: what else the machine does hits both alike. On two cores the
load shares its core with the upstream; with a third it has one of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import load, processes, proxies
from benchmarks.errors import CannotRun
from benchmarks.options import at_least_one
from benchmarks.proxies import Proxy

DESCRIPTION = """\
Requests/s at 32 connections and SSE events/s at 16 streams through `cortex --role gateway`, as a ratio to nginx before
the same mock neuron; one worker and one core for each proxy, rounds alternating. There are two nginx:

nginx        tuned: HTTP/1.1 to the upstream, on connections that are kept alive (`upstream … keepalive`)
nginx_plain  what `proxy_pass` does by itself: HTTP/1.0, a new connection to the upstream for each request

Wanted in a quiet run: above 0.2 of nginx for requests and above 0.7 for events. The proxy's CPU time for one answer or
event is told as well (cpu_us_per_request, cpu_us_per_event): where the machine is busy it says the most.

--json prints {"rps": {…}, "sse_events_per_s": {…}}, each with
  nginx, nginx_plain, cortex   medians, a second
  ratio, ratio_plain           cortex to nginx and to nginx_plain: medians of the rounds' ratios
  cpu_us_per_request, or …_per_event   {proxy: microseconds}

Needs nginx (apt-get install nginx-light) and two cores; uses wrk for the requests when it is there (apt-get install wrk).
"""
RATES = {"rps": "requests/s, 32 connections", "sse_events_per_s": "SSE events/s, 16 streams"}
CPU_US = {"rps": "cpu_us_per_request", "sse_events_per_s": "cpu_us_per_event"}
RATIOS = {"nginx": "ratio", "nginx_plain": "ratio_plain"}


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where."""

    proxy: int
    upstream: int
    load: int

    @classmethod
    def of_this_machine(cls) -> Cores:
        """Raises CannotRun on a single core, where the proxy would be measured together with its upstream."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise CannotRun("the relay needs two cores, one of them for the proxy alone; this machine offers one")
        return cls(proxy=cores[-1], upstream=cores[0], load=cores[1] if len(cores) > 2 else cores[0])


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement: answers or events a second, and the proxy's CPU time for one, in microseconds."""

    per_s: float
    cpu_us: float


Round = dict[str, dict[str, Figure]]  # by rate and proxy


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "relay",
        help="the gateway's speed as a ratio to nginx",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=at_least_one, default=4, help="of each measurement (default 4)")
    parser.add_argument("--rounds", type=at_least_one, default=5, help="of all measurements (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; progress stays on stderr")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    result = summary(measure(args.seconds, args.rounds))
    print(json.dumps(result) if args.json else table(result))
    return 0


def measure(seconds: int, rounds: int) -> list[Round]:
    """Everything, one round after the other."""
    proxies.find_nginx()
    cores = Cores.of_this_machine()
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="cortex-bench-")))
        upstream = held.enter_context(proxies.mock_neuron(folder, cores.upstream))
        starts = (proxies.nginx, proxies.nginx_plain, proxies.gateway)
        compared = [held.enter_context(start(upstream, folder, cores.proxy)) for start in starts]
        return [_round(number, compared, seconds, folder, cores) for number in range(1, rounds + 1)]


def _round(number: int, compared: list[Proxy], seconds: int, folder: Path, cores: Cores) -> Round:
    loads = {
        "rps": lambda port: load.requests_per_s(port, seconds, folder, cores.load),
        "sse_events_per_s": lambda port: load.events_per_s(port, seconds, cores.load),
    }
    figures = {rate: {proxy.name: _figure(proxy, put, seconds) for proxy in compared} for rate, put in loads.items()}
    told = (f"{proxy} {figure.per_s:.0f} {rate}" for rate, of in figures.items() for proxy, figure in of.items())
    print(f"round {number}: {', '.join(told)}", file=sys.stderr, flush=True)
    return figures


def _figure(proxy: Proxy, put_load_on: Callable[[int], float], seconds: int) -> Figure:
    before = processes.cpu_seconds(proxy.pid)
    per_s = put_load_on(proxy.port)
    return Figure(per_s, (processes.cpu_seconds(proxy.pid) - before) / (per_s * seconds) * 1e6)


def summary(rounds: list[Round]) -> dict[str, Any]:
    """Medians for each rate, and the medians of the rounds' ratios: a round's figures were taken one after the other."""
    return {rate: _summary(CPU_US[rate], [each[rate] for each in rounds]) for rate in RATES}


def _summary(cpu_us: str, rounds: list[dict[str, Figure]]) -> dict[str, Any]:
    told: dict[str, Any] = {
        proxy: round(statistics.median(each[proxy].per_s for each in rounds), 1) for proxy in rounds[0]
    }
    for nginx, ratio in RATIOS.items():
        told[ratio] = round(statistics.median(each["cortex"].per_s / each[nginx].per_s for each in rounds), 3)
    told[cpu_us] = {proxy: round(statistics.median(each[proxy].cpu_us for each in rounds), 1) for proxy in rounds[0]}
    return told


def table(result: dict[str, Any]) -> str:
    """For each rate a line of medians and ratios, and one of the proxies' own CPU time for one answer or event."""
    lines = [f"{'':<28}{'nginx':>10}{'nginx_plain':>13}{'cortex':>10}{'ratio':>8}{'ratio_plain':>13}"]
    for rate, title in RATES.items():
        row, cpu = result[rate], result[rate][CPU_US[rate]]
        lines.append(
            f"{title:<28}{row['nginx']:>10.0f}{row['nginx_plain']:>13.0f}{row['cortex']:>10.0f}"
            f"{row['ratio']:>8.2f}{row['ratio_plain']:>13.2f}"
        )
        lines.append(f"{CPU_US[rate]:<28}{cpu['nginx']:>10.1f}{cpu['nginx_plain']:>13.1f}{cpu['cortex']:>10.1f}")
    return "\n".join(lines)

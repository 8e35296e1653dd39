"""`cortex load` and `cortex unload`: asked of the gateway, which asks the neurons."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import orjson

from cortex.cli.client import Client, connected
from cortex.cli.outcome import Exit, Failure
from cortex.cli.show import Advance, progress

POLL_S = 0.5  # of a job: as often as a bar should move
START_S = 60.0  # for a neuron to say that a load has begun
UNLOAD_S = 120.0  # running answers get their time first


def load(args: argparse.Namespace) -> int:
    body = {"model_id": args.model, "node": args.node, "quant": args.quant, "wait": False}
    return asyncio.run(_load(args, {name: value for name, value in body.items() if value is not None}))


def unload(args: argparse.Namespace) -> int:
    body = {"model_id": args.model} | ({"node": args.node} if args.node else {})
    return asyncio.run(_unload(args, body))


async def _load(args: argparse.Namespace, body: dict[str, Any]) -> int:
    async with connected(args.endpoint) as gateway:
        told = await gateway.ask("POST", "/models/load", body, has=("status", "node"), within_s=START_S)
        if args.wait and "job" in told:
            with progress() as advance:
                await _follow(gateway, told["job"]["id"], args.model, advance)
            told = {"status": "loaded", "node": told["node"], "job_id": told["job"]["id"]}
    _say(
        args, told, f"{args.model} {'is loaded' if told['status'] == 'loaded' else 'is being loaded'} on {told['node']}"
    )
    return Exit.ok


async def _follow(gateway: Client, job_id: str, model: str, advance: Advance) -> None:
    """Show a job until its end. Raises Failure with its reason when it failed."""
    while True:
        job = await gateway.ask("GET", f"/jobs/{job_id}", has=("stage",))
        advance(f"{model}: {job['stage']}", job.get("bytes_done"), job.get("bytes_total"))
        if job["stage"] == "failed":
            raise Failure(f"{model} was not loaded: {(job.get('error') or {}).get('message', 'no reason given')}")
        if job["stage"] == "done":
            return
        await asyncio.sleep(POLL_S)


async def _unload(args: argparse.Namespace, body: dict[str, Any]) -> int:
    async with connected(args.endpoint) as gateway:
        told = await gateway.ask("POST", "/models/unload", body, has=("nodes",), within_s=UNLOAD_S)
    _say(args, told, f"{args.model} is unloaded from {', '.join(told['nodes'])}")
    return Exit.ok


def _say(args: argparse.Namespace, told: Any, sentence: str) -> None:
    print(orjson.dumps(told).decode() if args.json else sentence)

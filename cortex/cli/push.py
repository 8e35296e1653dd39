"""`cortex push MODEL NODE`: a model's files to a neuron that has none, through the gateway."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any
from urllib.parse import quote

import orjson

from cortex.cli.client import Client, connected
from cortex.cli.outcome import Exit, Failure
from cortex.cli.show import Advance, progress
from cortex.config.rate import parse_rate

BEGIN_S = 30.0
PACE_S = 0.1
POLL_S = 0.5  # as often as a bar should move
GONE = 404  # a job of a neuron that has started anew: the push goes on, and has another one


def push(args: argparse.Namespace) -> int:
    try:
        rate = {"rate": args.rate} if args.rate and parse_rate(args.rate) else {}
    except ValueError as error:
        raise Failure(f"--rate: {error}", Exit.usage) from error
    body = {"model_id": args.model, "node": args.node, "wait": False, **rate}
    told = asyncio.run(_push(args.endpoint, body | ({"source": args.source} if args.source else {})))
    was = "was there already" if told["status"] == "present" else f"came from {told['from']}"
    print(orjson.dumps(told).decode() if args.json else f"{args.model} is on {told['node']}: it {was}")
    return Exit.ok


async def _push(endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask until it is there: the gateway joins what it has begun. Raises Failure with the reason why it will not be."""
    came_from = None
    async with connected(endpoint) as gateway:
        with progress() as advance:
            while True:
                told: dict[str, Any] = await gateway.ask(
                    "POST", "/models/push", body, has=("status", "node"), within_s=BEGIN_S
                )
                came_from = told.get("from", came_from)
                if told["status"] == "pushed" or (told["status"] == "present" and came_from is None):
                    return told
                if told["status"] == "present":
                    return {"status": "pushed", "node": told["node"], "from": came_from}
                if "job" in told:
                    job = f"/jobs/{told['job']['id']}?node={quote(told['node'], safe='')}"
                    await _follow(gateway, job, body["model_id"], advance)
                else:
                    advance(f"{body['model_id']}: reading", told.get("bytes_done"), told.get("bytes_total"))
                await asyncio.sleep(PACE_S)


async def _follow(gateway: Client, path: str, model: str, advance: Advance) -> None:
    """Show a job until its end, or until nobody knows of it any more."""
    while True:
        answer = await gateway.exchange("GET", path)
        if answer.status_code == GONE:
            await asyncio.sleep(POLL_S)
            return
        job = await gateway.ask("GET", path) if answer.is_error else orjson.loads(answer.content)
        advance(f"{model}: {job['stage']}", job.get("bytes_done"), job.get("bytes_total"))
        error = job.get("error") or {}
        if job["stage"] == "failed" and error.get("code") != "sender_gone":
            code = Exit.damaged if error.get("code") == "file_corrupt" else Exit.failed
            raise Failure(f"{model} was not pushed: {error.get('message', 'no reason given')}", code)
        if job["stage"] in ("done", "failed"):
            return
        await asyncio.sleep(POLL_S)

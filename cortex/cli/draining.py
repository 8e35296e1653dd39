"""`cortex drain` and `cortex undrain`: a neuron out of service, and back."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any
from urllib.parse import quote

import orjson

from cortex.cli.client import Client, connected
from cortex.cli.outcome import Exit

POLL_S = 0.5


def drain(args: argparse.Namespace) -> int:
    told = asyncio.run(_drain(args))
    running = told["in_flight"]
    _say(
        args, told, f"{args.node} takes nothing new; {running or 'no'} request{'' if running == 1 else 's'} still there"
    )
    return Exit.ok


def undrain(args: argparse.Namespace) -> int:
    _say(args, asyncio.run(_undrain(args)), f"{args.node} works again")
    return Exit.ok


async def _drain(args: argparse.Namespace) -> Any:
    async with connected(args.endpoint) as gateway:
        told = await _ask(gateway, args.node, "drain")
        while args.wait and told["in_flight"]:
            await asyncio.sleep(POLL_S)
            told = await _ask(gateway, args.node, "drain")  # once more changes nothing, and tells what is left
        return told


async def _undrain(args: argparse.Namespace) -> Any:
    async with connected(args.endpoint) as gateway:
        return await _ask(gateway, args.node, "undrain")


async def _ask(gateway: Client, node: str, verb: str) -> Any:
    return await gateway.ask("POST", f"/nodes/{quote(node, safe='')}/{verb}", has=("node", "in_flight"))


def _say(args: argparse.Namespace, told: Any, sentence: str) -> None:
    print(orjson.dumps(told).decode() if args.json else sentence)

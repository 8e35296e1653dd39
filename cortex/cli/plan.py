"""`cortex plan`: what would happen to a request for a model, and why, node by node."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from cortex.cli.client import connected
from cortex.cli.outcome import Exit
from cortex.cli.show import megabytes, table

COLUMNS = ("NEURON", "CANDIDATE", "NEEDS", "FREE", "WOULD LEAVE", "WHY NOT")


def plan(args: argparse.Namespace) -> int:
    """Exit 1 when a request would be refused."""
    told = asyncio.run(_ask(args))
    if args.json:
        print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    else:
        where = f" on {told['node']}" if told.get("node") else ""
        print(f"{told['model_id']}: {told['verdict']}{where}: {told['why']}")
        table("neurons", COLUMNS, [_row(node) for node in told["nodes"]])
    return Exit.failed if told["verdict"] == "reject" else Exit.ok


async def _ask(args: argparse.Namespace) -> Any:
    async with connected(args.endpoint) as gateway:
        return await gateway.ask(
            "GET", f"/plan?model={quote(args.model, safe='')}", has=("model_id", "verdict", "nodes")
        )


def _row(node: Mapping[str, Any]) -> list[str]:
    needs = megabytes(node["need_mb"]) + (f" ({node['need_from']})" if node["need_from"] else "")
    leave = ", ".join(victim["id"] for victim in node.get("victims", ())) or "-"
    brought = f"yes, from {node['sync_from']}" if "sync_from" in node else "yes, fetched"
    candidate = "no" if not node["candidate"] else "yes" if node["has_file"] else brought
    return [node["node"], candidate, needs, megabytes(node["free_mb"]), leave, node.get("why", "-")]

"""`cortex status` and `cortex models`: what the gateway knows, for people or as JSON."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from cortex.cli.client import connected
from cortex.cli.outcome import Exit
from cortex.cli.show import megabytes, table

FLEET = ("NEURON", "STATE", "HARDWARE", "FREE", "ENDPOINT")
PLACES = ("MODEL", "NEURON", "STATE", "MEMORY", "CONTEXT", "BUSY")
MODELS = ("MODEL", "WHERE", "CONTEXT", "ALIASES")


def status(args: argparse.Namespace) -> int:
    told = asyncio.run(_get(args.endpoint, "/status", "nodes"))
    if args.json:
        return _json(told)
    nodes = told["nodes"]
    print(f"fleet: {told['status']}, {sum(node['healthy'] for node in nodes)} of {len(nodes)} neurons answer")
    for line in _configuration(told.get("config") or {}):
        print(line)
    table("neurons", FLEET, [_neuron(node) for node in nodes])
    table("models", PLACES, [_place(node, model) for node in nodes for model in node["models"]])
    for line in _problems(nodes):
        print(line)
    return Exit.ok


def models(args: argparse.Namespace) -> int:
    told = asyncio.run(_get(args.endpoint, "/v1/models", "data"))
    if args.json:
        return _json(told["data"])
    table("models", MODELS, [_model(entry) for entry in told["data"]])
    return Exit.ok


async def _get(endpoint: str, path: str, field: str) -> Any:
    async with connected(endpoint) as gateway:
        return await gateway.ask("GET", path, has=(field,))


def _json(told: Any) -> int:
    print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    return Exit.ok


# ---- rows; whatever an older gateway does not tell is a dash


def _configuration(config: Mapping[str, Any]) -> Iterator[str]:
    if config.get("error"):
        yield f"configuration: the files as they are now are not in force: {'; '.join(config['error'].splitlines())}"
    if config.get("restart_for"):
        yield f"configuration: in force after a restart only: {', '.join(config['restart_for'])}"


def _problems(nodes: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Whatever is wrong with a neuron, in full sentences, below the tables: a column has no room for it."""
    for node in nodes:
        if node.get("problem"):
            yield f"{node['name']}: {node['problem']}"
        if node.get("cut_off"):
            yield f"{node['name']}: requests to it fail, so it gets none until it answers a trial"


def _state(node: Mapping[str, Any]) -> str:
    """`up`, `down`, `cut off` (it answers, and requests to it fail), and whether it is drained."""
    states = ["draining"] if node.get("draining") else []
    if not node["healthy"]:
        age = node.get("last_poll_age_secs")
        states.append("down" if age is None else f"down for {age:.0f} s")
    elif node.get("cut_off"):
        states.append("cut off")
    return ", ".join(states) or "up"


def _neuron(node: Mapping[str, Any]) -> list[str]:
    devices = node.get("devices", [])
    used = [device for device in devices if "cuda_unavailable_reason" not in device]
    free = [megabytes(device.get("vram_free_mb")) for device in used]
    free = free or ["-" if devices else megabytes(node.get("memory_free_mb"))]
    return [node["name"], _state(node), _hardware(node, devices), " + ".join(free), node["endpoint"]]


def _hardware(node: Mapping[str, Any], devices: Iterable[Mapping[str, Any]]) -> str:
    if gpus := [_gpu(device) for device in devices]:
        return " + ".join(gpus)
    if "cpu_cores" not in node:
        return "-"
    return f"CPU, {node['cpu_cores']} cores, {megabytes(node.get('memory_total_mb'))}"


def _gpu(device: Mapping[str, Any]) -> str:
    told = f"{device['name']} {megabytes(device.get('vram_total_mb'))}"
    return f"({told}, not used)" if "cuda_unavailable_reason" in device else told


def _place(node: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    used, estimate = model.get("vram_used_mb"), model.get("vram_estimate_mb")
    memory = megabytes(used) if used is not None or estimate is None else f"~{megabytes(estimate)}"
    busy = f"{model['in_flight']} + {model['queue_depth']} waiting" if "in_flight" in model else "-"
    state = f"{model['status']}: {model['error']}" if model.get("error") else model["status"]
    if not node["healthy"]:
        state, busy = f"was {model['status']}", "-"  # as it was last heard of
    return [model["id"], node["name"], state, memory, str(model.get("context_length", "-")), busy]


def _model(entry: Mapping[str, Any]) -> list[str]:
    places = [f"{place['node']} ({place['status']})" for place in entry["locations"]]
    feasible = [f"could run on {', '.join(entry.get('feasible_on', []))}"]
    context = str(entry.get("context_length", "-"))
    return [entry["id"], ", ".join(places or feasible), context, ", ".join(entry.get("aliases", [])) or "-"]

"""`POST /models/push`: a model's files copied to a neuron that has none, by hand."""

from __future__ import annotations

import asyncio
import functools
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.config.rate import parse_rate
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.fleet.sync import Copy, Sync
from cortex.gateway.live import Live
from cortex.gateway.routing.feasible import files_of
from cortex.gateway.routing.placement import givers
from cortex.gateway.routing.types import Node

BEGIN_S = 8.0  # for the job to be there; a large file may have to be read first, and that is said

_WANTS = "its neuron.toml wants token_file, and [sync] {} = true"


class PushRequest(BaseModel):
    """`rate` as in 50MB/s; without it what `[sync]` says. `source`: the neuron whose files they are to be."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model_id: str = Field(min_length=1, max_length=512)
    node: str = Field(min_length=1)
    source: str | None = None
    rate: Annotated[int, BeforeValidator(parse_rate)] | None = None
    wait: bool = True


class PushApi:
    def __init__(self, fleet: Fleet, sync: Sync, live: Live) -> None:
        self._fleet = fleet
        self._sync = sync
        self._live = live

    async def push(self, request: Request) -> HTTPResponse:
        """`{"status": "pushed"}` when it is there, `"present"` when it was. With `"wait": false` 202: `"pushing"` with the job
        of the neuron that receives, or `"preparing"` while the other one reads its files: then ask again.
        """
        asked = web.parse(PushRequest, web.json_object(request))
        taker = self._node(asked.node)
        files = self._files(asked.model_id)
        if not files:
            raise errors.model_not_found(asked.model_id, "on the disk of any node")
        told: dict[str, Any] = {"node": taker.name}
        if taker.name in files:
            return web.json({"status": "present", **told})
        giver = self._giver(asked, files)
        _check_takes(taker)
        copy, task = self._sync.copy(
            files[giver.name],
            giver.name,
            taker.name,
            givers=functools.partial(self._givers, asked),
            rate=asked.rate or self._live.config.sync.rate,
        )
        job = None
        if asked.wait:
            await asyncio.wait([task])
        else:
            job = await copy.begun(BEGIN_S)
        told["from"] = copy.source
        if not task.done():
            begun = {"job": job.model_dump(mode="json", exclude_none=True)} if job else _hashing(copy)
            return web.json({"status": "pushing" if job else "preparing", **told, **begun}, status=202)
        if error := task.result():
            raise error
        return web.json({"status": "pushed", **told})

    def _node(self, name: str) -> Node:
        nodes = self._fleet.snapshot.by_name
        if name not in nodes:
            raise errors.not_found(f"there is no node '{name}'; known are: {', '.join(nodes) or 'none'}")
        return nodes[name]

    def _files(self, asked: str) -> dict[str, str]:
        """By node: what it lists the model as."""
        model_id = self._live.catalogue.resolve(asked)
        found = files_of(model_id, self._live.catalogue.profile(model_id), self._fleet.snapshot)
        return {node: replica.model_id for node, replica in found.items()}

    def _givers(self, asked: PushRequest) -> dict[str, str]:
        """Who may go on when the first giver fails: nobody else where the operator named it."""
        files = self._files(asked.model_id)
        return {name: files[name] for name in givers(files, self._fleet.snapshot) if asked.source in (None, name)}

    def _giver(self, asked: PushRequest, files: dict[str, str]) -> Node:
        nodes = [self._fleet.snapshot.by_name[name] for name in sorted(files) if asked.source in (None, name)]
        if not nodes:
            raise errors.model_not_found(
                asked.model_id, f"on node '{asked.source}'; it is on {', '.join(sorted(files))}"
            )
        up = [node for node in nodes if node.ready or node.draining]
        if not up:
            raise errors.unavailable(f"'{asked.model_id}' is only on {_names(nodes)}, which is down")
        offering = [node for node in up if node.offers]
        if not offering:
            what = f"'{asked.model_id}' is on {_names(up)}, which gives no files: {_WANTS.format('offer')}"
            raise errors.invalid_request(what, code="does_not_offer", status=409)
        return offering[0]


def _check_takes(node: Node) -> None:
    if not (node.ready or node.draining):
        raise errors.unavailable(f"node '{node.name}' is down")
    if not node.accepts:
        what = f"node '{node.name}' takes no files: {_WANTS.format('accept')}"
        raise errors.invalid_request(what, code="does_not_accept", status=409)


def _hashing(copy: Copy) -> dict[str, int]:
    return copy.hashing.model_dump() if copy.hashing else {}


def _names(nodes: list[Node]) -> str:
    return ", ".join(f"'{node.name}'" for node in nodes)

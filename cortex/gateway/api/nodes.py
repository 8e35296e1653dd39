"""A neuron taken out of service and back, for whoever works on its host.

The neuron itself holds that it is drained: every gateway sees it, and no restart of one forgets it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.gateway.fleet.client import NeuronClient, NeuronError, NeuronRefusal
from cortex.gateway.fleet.poller import Poller
from cortex.gateway.fleet.state import Fleet


class NodesApi:
    def __init__(self, fleet: Fleet, clients: Mapping[str, NeuronClient], poller: Poller) -> None:
        self._fleet = fleet
        self._clients = clients
        self._poller = poller

    async def drain(self, _request: Request, name: str) -> HTTPResponse:
        """`{"node", "draining", "in_flight"}`: from now on it takes no request and no load; what runs there is finished."""
        return await self._set(name, draining=True)

    async def undrain(self, _request: Request, name: str) -> HTTPResponse:
        return await self._set(name, draining=False)

    async def _set(self, name: str, *, draining: bool) -> HTTPResponse:
        if self._fleet.view(name) is None:
            known = ", ".join(view.name for view in self._fleet.views) or "none"
            raise errors.not_found(f"there is no node '{name}'; known are: {known}")
        try:
            told = await self._clients[name].drain(on=draining)
        except NeuronRefusal as refusal:
            if refusal.error.status == 404:
                raise errors.upstream_failed(f"node '{name}' is of a version that cannot be drained") from refusal
            raise refusal.for_client from refusal
        except NeuronError as error:
            raise errors.upstream_failed(f"node '{name}' could not be asked: it may be down already") from error
        await self._poller.refresh(name)
        return web.json({"node": name, "draining": draining, "in_flight": told.get("in_flight")})

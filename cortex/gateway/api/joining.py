"""Neurons that announce themselves. Without a shared token nobody joins: there is no open door to be forgotten."""

from __future__ import annotations

from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.gateway.fleet.joining import endpoint_of
from cortex.gateway.fleet.membership import Membership
from cortex.gateway.live import Live
from cortex.wire.bearer import shows
from cortex.wire.fleet import Announcement


class JoiningApi:
    def __init__(self, membership: Membership, live: Live) -> None:
        self._membership = membership
        self._live = live

    async def join(self, request: Request) -> HTTPResponse:
        """`{"status": "joined"}`, or "configured" where the configuration names it already."""
        announcement = self._announcement(request)
        endpoint = endpoint_of(announcement, request.ip)
        joined = await self._membership.join(announcement.name, endpoint, announcement.interval_secs)
        return web.json({"status": "joined" if joined else "configured"})

    async def leave(self, request: Request) -> HTTPResponse:
        announcement = self._announcement(request)
        await self._membership.leave(announcement.name, endpoint_of(announcement, request.ip))
        return web.json({"status": "left"})

    def _announcement(self, request: Request) -> Announcement:
        token = self._live.settings.neuron_token
        if token is None:
            raise errors.invalid_request(
                "neurons cannot join here: this gateway has no gateway.neuron_token", code="joining_off", status=403
            )
        if not shows(request.headers.get("authorization"), token.get_secret_value()):
            raise errors.unauthorized("this gateway wants its neurons' token: Authorization: Bearer …")
        return web.parse(Announcement, web.json_object(request))

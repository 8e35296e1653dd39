"""Who is let in. Without `require_auth` that is everybody, and a key that nobody knows is taken for the placeholder that many clients send.

With it everything but the public paths (`/`, `/health`, `/api/hello`) wants a key, and what changes the fleet by hand
wants one with `admin`.
"""

from __future__ import annotations

from typing import Any

from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.gateway.keys.keyring import Principal
from cortex.gateway.live import Live

PUBLIC = frozenset({"/", "/health", "/api/hello"})  # for load balancers, and for clients that look whether it is up
BY_HAND = ("/models/", "/nodes/")  # changes the fleet


class Gate:
    def __init__(self, live: Live) -> None:
        self._live = live

    def guarding(self, path: str, handler: web.Handler) -> web.Handler:
        """`handler` for whoever is let in at `path`, with the principal as `request.ctx.principal`. Raises 401 and 403."""
        if path in PUBLIC:
            return handler

        async def guarded(request: Request, **parts: Any) -> HTTPResponse | None:
            keyring = self._live.keyring
            principal = request.ctx.principal = keyring.identify(request.headers.items())
            if principal:
                request.ctx.fields |= {"account": principal.account_id, "key_id": principal.key_id}
            if keyring.require_auth and path.startswith(BY_HAND) and not (principal and principal.admin):
                raise errors.forbidden("this API key may not change the fleet: that needs admin = true")
            return await handler(request, **parts)

        return guarded


def principal_of(request: Request) -> Principal | None:
    """Who asks, after the gate; None is anonymous."""
    principal: Principal | None = request.ctx.principal
    return principal

"""Who may talk to this neuron: whoever shows its token, or anybody when it has none.

Without the token everything is refused with 401 but `GET /health`, which then says that the neuron is up and no more:
load balancers and service managers have no secrets.
"""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr
from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.wire.bearer import shows


class Guard:
    """`token` may be changed at any time; requests that run go on."""

    def __init__(self, token: SecretStr | None) -> None:
        self.token = token

    def admits(self, request: Request) -> bool:
        return self.token is None or shows(request.headers.get("authorization"), self.token.get_secret_value())

    def protecting(self, handler: web.Handler) -> web.Handler:
        async def guarded(request: Request, **parts: Any) -> HTTPResponse | None:
            if not self.admits(request):
                raise errors.unauthorized("this neuron wants its token: Authorization: Bearer …")
            return await handler(request, **parts)

        return guarded

    def health(self, handler: web.Handler) -> web.Handler:
        async def liveness(request: Request) -> HTTPResponse | None:
            return await handler(request) if self.admits(request) else web.json({"status": "ok"})

        return liveness

"""`GET /plan?model=X`: what would happen to a request, with the numbers behind it; nothing is done."""

from __future__ import annotations

from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.gateway.fleet.router import Router


class PlanApi:
    def __init__(self, router: Router) -> None:
        self._router = router

    async def plan(self, request: Request) -> HTTPResponse:
        model = request.args.get("model")
        if not model:
            raise errors.invalid_request("say which model, as in /plan?model=org/name", param="model")
        return web.json(self._router.explain(model))

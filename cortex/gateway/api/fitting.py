"""A model that cannot do what it was asked for: the error names one that can, of those that the key may use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sanic import Request
from sanic.response import HTTPResponse

from cortex.errors import CortexError
from cortex.gateway.api.models import ModelsApi
from cortex.web import Handler

WRONG_MODALITY = "wrong_modality"
_WANTED: Mapping[str, str] = {
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/rerank": "rerank",
    "/api/embed": "embeddings",
    "/api/embeddings": "embeddings",
}  # by path; everything else is a chat


class Fitting:
    def __init__(self, models: ModelsApi) -> None:
        self._models = models

    def naming(self, handler: Handler) -> Handler:
        """`handler`, with the name of a model that fits in its errors where there is one."""

        async def named(request: Request, **parts: Any) -> HTTPResponse | None:
            try:
                return await handler(request, **parts)
            except CortexError as error:
                if error.code != WRONG_MODALITY:
                    raise
                raise self._named(error, request) from error

        return named

    def _named(self, error: CortexError, request: Request) -> CortexError:
        fitting = self._models.able(request, _WANTED.get(request.path, "chat"))
        if fitting is None:
            return error
        return CortexError(
            f"{error.message}: '{fitting}' does",
            status=error.status,
            type=error.type,
            code=error.code,
            param="model",
            extras={**error.extras, "suggestion": f"use '{fitting}'"},
        )

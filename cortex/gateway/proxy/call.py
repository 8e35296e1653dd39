"""What the gateway reads of a request: the model, and whether the answer is a stream. All else passes as it came."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from cortex import errors
from cortex.config.catalogue import Catalogue
from cortex.net.headers import Headers, forwardable_request_headers

MODEL_NAME_LIMIT = 512

# For the gateway only: a client's keys and cookies are no neuron's business, and a compressed answer cannot be observed.
_KEPT_BACK = frozenset({"authorization", "cookie", "x-api-key", "accept-encoding", "x-request-id"})


@dataclass(frozen=True, slots=True)
class Call:
    """A request that can be sent to any replica of `model_id`."""

    path: str
    headers: Headers
    body: bytes
    model_id: str
    stream: bool


def read_call(
    path: str, headers: Iterable[tuple[str, str]], body: bytes, request_id: str, catalogue: Catalogue
) -> Call:
    """Parse the body once. It is written anew only for an alias. Raises CortexError 400, 404, 422."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.malformed_json(str(error)) from None
    if not isinstance(payload, dict):
        raise errors.invalid_request("the request body must be a JSON object", code="invalid_request_body", status=422)
    model_id = catalogue.resolve(model := _model_of(payload))
    if model_id != model:
        body = orjson.dumps({**payload, "model": model_id})
    return Call(path, _headers(headers, request_id), body, model_id, stream=payload.get("stream") is True)


def _model_of(payload: dict[str, Any]) -> str:
    model = payload.get("model")
    if not isinstance(model, str) or not model:
        raise errors.missing_model_field()
    if len(model) > MODEL_NAME_LIMIT:
        raise errors.model_not_found(model[:64] + "…")
    return model


def _headers(headers: Iterable[tuple[str, str]], request_id: str) -> Headers:
    passed = [field for field in forwardable_request_headers(headers) if field[0] not in _KEPT_BACK]
    return [*passed, ("x-request-id", request_id)]

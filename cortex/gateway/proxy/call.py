"""What the gateway reads of a request: the model, and whether the answer is a stream. All else passes as it came."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple, Protocol, cast, get_args

import orjson

from cortex import errors
from cortex.config.catalogue import Profile
from cortex.config.gateway import WaitPolicy
from cortex.gateway.keys.estimate import Estimate, estimate
from cortex.gateway.keys.keyring import Principal
from cortex.net.headers import Headers, forwardable_request_headers
from cortex.wire.fields import written
from cortex.wire.principal import PRINCIPAL_HEADERS

MODEL_NAME_LIMIT = 512
PREFIX_BYTES = 1024
WAIT_HEADER = "x-cortex-wait"

# For the gateway only: a client's keys and cookies are no neuron's business, who it is is ours to say, and a compressed
# answer cannot be observed.
_KEPT_BACK = (
    frozenset({"authorization", "cookie", "x-api-key", "accept-encoding", "x-request-id", WAIT_HEADER})
    | PRINCIPAL_HEADERS
)


class Call(NamedTuple):
    """A request that can be sent to any replica of `model_id`. `estimate` is there for a principal with a cap.

    wait          what it says about a model that is not loaded; None: nothing
    alternatives  further targets of its alias, which may serve it when that is to be "warm"
    """

    path: str
    headers: Headers
    body: bytes
    model_id: str
    stream: bool
    principal: Principal | None = None
    estimate: Estimate | None = None
    wait: WaitPolicy | None = None
    alternatives: tuple[str, ...] = ()

    @property
    def prefix(self) -> bytes:
        """What a conversation's requests have in common from their first byte on; empty for a short one, of which no cache is worth a detour."""
        return self.body[:PREFIX_BYTES] if len(self.body) > PREFIX_BYTES else b""

    def for_model(self, model_id: str) -> Call:
        """The same request of another model."""
        body = written(orjson.loads(self.body) | {"model": model_id})
        return self._replace(model_id=model_id, body=body, alternatives=())


class Names(Protocol):
    """What a client's name for a model means, and what is configured for it."""

    def targets(self, model: str) -> tuple[str, ...]: ...
    def known_as(self, model: str) -> str: ...
    def profile(self, model_id: str) -> Profile | None: ...


def read_call(
    path: str,
    headers: Collection[tuple[str, str]],
    body: bytes,
    request_id: str,
    names: Names,
    principal: Principal | None = None,
) -> Call:
    """Parse the body once. It is written anew only for an alias, and for a bound that a cap wants. Raises CortexError 400, 403, 404, 422."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.malformed_json(str(error)) from None
    if not isinstance(payload, dict):
        raise errors.invalid_request("the request body must be a JSON object", code="invalid_request_body", status=422)
    passed = forwardable_request_headers(headers, _KEPT_BACK)
    return _call(path, payload, body, names, principal, _signed(passed, request_id, principal), _wait_policy(headers))


def new_call(
    path: str,
    payload: dict[str, Any],
    headers: Collection[tuple[str, str]],
    request_id: str,
    names: Names,
    principal: Principal | None = None,
) -> Call:
    """A call of our own making, for a request in another dialect: its headers speak to us alone. Raises CortexError 400, 403, 404."""
    body, passed = written(payload), [("content-type", "application/json")]
    return _call(path, payload, body, names, principal, _signed(passed, request_id, principal), _wait_policy(headers))


def _call(
    path: str,
    payload: dict[str, Any],
    body: bytes,
    names: Names,
    principal: Principal | None,
    headers: Headers,
    wait: WaitPolicy | None,
) -> Call:
    targets = names.targets(model := _model_of(payload))
    reserved = reserved_for(principal, path, payload, targets[0], names)
    changes: dict[str, Any] = dict(reserved.bounds) if reserved else {}
    if targets[0] != model:
        changes["model"] = targets[0]
    if changes:
        body = written({**payload, **changes})
    alternatives = (
        tuple(each for each in targets[1:] if principal is None or principal.may_use(each, names.known_as(model)))
        if len(targets) > 1
        else ()
    )
    return Call(path, headers, body, targets[0], payload.get("stream") is True, principal, reserved, wait, alternatives)


def reserved_for(
    principal: Principal | None, path: str, payload: dict[str, Any], model_id: str, names: Names
) -> Estimate | None:
    """What a call takes of its key's cap, if that has one. Raises 403 for a model that the key may not use."""
    if principal is None:
        return None
    if not principal.may_use(model_id, names.known_as(payload["model"])):  # no word of its own makes it allowed
        raise errors.forbidden(f"this API key may not use model '{payload['model']}'", param="model")
    return estimate(path, payload, names.profile(model_id)) if principal.limits.tokens is not None else None


def _wait_policy(headers: Collection[tuple[str, str]]) -> WaitPolicy | None:
    said = dict(headers).get(WAIT_HEADER)
    return None if said is None else _policy(said)


def _policy(said: str) -> WaitPolicy:
    for policy in get_args(WaitPolicy):
        if said.strip().lower() == policy:
            return cast("WaitPolicy", policy)
    known = ", ".join(get_args(WaitPolicy))
    shown = said.encode(errors="replace").decode()  # any bytes may come in a header
    raise errors.invalid_request(f"{WAIT_HEADER}: '{shown}' is none of {known}", param=WAIT_HEADER)


def _model_of(payload: dict[str, Any]) -> str:
    model = payload.get("model")
    if not isinstance(model, str) or not model:
        raise errors.missing_model_field()
    if len(model) > MODEL_NAME_LIMIT:
        raise errors.model_not_found(model[:64] + "…")
    return model


def _signed(passed: list[tuple[str, str]], request_id: str, principal: Principal | None) -> Headers:
    """With what we say of the request ourselves."""
    return [*passed, ("x-request-id", request_id), *(principal.headers if principal else ())]

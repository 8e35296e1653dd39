"""Questions about a model's vocabulary and template: counted, split, rendered. Nothing is generated and nothing loaded for them.

1. A replica that is loaded answers.
2. Otherwise a neuron that has the file does, from the vocabulary alone; it is told how the model would be loaded.
3. Where nobody has the file, it cannot be known yet, and that is said; a guess is never given for a count.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import orjson

from cortex import errors
from cortex.errors import CortexError
from cortex.gateway.fleet.client import NeuronClient
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.live import Live
from cortex.gateway.proxy.call import Call
from cortex.gateway.proxy.journey import NeuronAnswer
from cortex.gateway.routing.decisions import Decision, Reject, Serve
from cortex.gateway.routing.snapshot import family
from cortex.net.address import Address
from cortex.net.errors import NetError
from cortex.net.headers import Headers, forwardable_response_headers
from cortex.net.pool import Pool
from cortex.wire.fields import written

COUNT_PATH = "/v1/chat/completions/input_tokens"
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
TIMEOUT_S = 60.0  # a vocabulary is started within some seconds also on a busy host
_SETTINGS = ("chat_template", "harness", "mode", "parallel", "quant", "source")  # what decides how a text is read

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to ask. `cold`: the neuron has the file and has not loaded it."""

    node: str
    address: Address
    cold: bool


class Tokens:
    """Asks the fleet. `decide` is the router over its present snapshot."""

    def __init__(
        self,
        decide: Callable[[str], Decision],
        fleet: Fleet,
        clients: Mapping[str, NeuronClient],
        live: Live,
        pool: Pool,
    ) -> None:
        self._decide = decide
        self._fleet = fleet
        self._clients = clients
        self._live = live
        self._pool = pool

    async def count(self, call: Call) -> int:
        """The tokens of a chat's prompt, exactly. Raises CortexError."""
        try:
            answer = orjson.loads(await self.ask(COUNT_PATH, call))
            return int(answer["input_tokens"])
        except NeuronAnswer as said:
            raise said.error from said
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise errors.upstream_failed("a neuron's count of tokens cannot be read") from error

    async def ask(self, path: str, call: Call) -> bytes:
        """A neuron's answer to `call`'s body at `path`. Raises NeuronAnswer for its refusal, CortexError when none can be asked."""
        failure: CortexError | NeuronAnswer | None = None
        for place in self._places(call.model_id):
            try:
                return await self._ask(place, path, call)
            except NetError as error:
                log.warning("counting failed: %s", error, extra={"fields": {"node": place.node}})
                failure = errors.upstream_failed(f"node '{place.node}' could not be reached or broke off")
            except NeuronAnswer as answer:
                if answer.status not in (401, 404, 503):  # else: perhaps another one
                    raise
                failure = answer
        raise failure or errors.unavailable(
            f"the tokens of '{call.model_id}' can be counted as soon as a node has its file: send a message first",
            code="model_loading",
        )

    def _places(self, model_id: str) -> Iterator[_Place]:
        match self._decide(model_id):
            case Serve(node, address):
                yield _Place(node, address, cold=False)
            case Reject(error):
                raise error
        known = self._fleet.snapshot.known.get(family(model_id), ())
        for node in dict.fromkeys(replica.node for replica in known):
            view = self._fleet.view(node)
            if view and view.ready and node in self._clients:
                yield _Place(node, self._clients[node].address, cold=True)

    async def _ask(self, place: _Place, path: str, call: Call) -> bytes:
        async with await self._pool.open(
            place.address,
            "POST",
            path,
            headers=self._headers(place, call),
            body=self._with_settings(call) if place.cold else call.body,
            head_timeout_s=TIMEOUT_S,
        ) as exchange:
            body = await exchange.read_all(ANSWER_LIMIT_BYTES, TIMEOUT_S)
        if exchange.status >= 400:
            raise NeuronAnswer(place.node, exchange.status, forwardable_response_headers(exchange.headers), body)
        return body

    def _headers(self, place: _Place, call: Call) -> Headers:
        client = self._clients.get(place.node)
        return [*call.headers, *client.credentials_for(place.address)] if client else call.headers

    def _with_settings(self, call: Call) -> bytes:
        profile = self._live.catalogue.profile(call.model_id)
        if profile is None:
            return call.body
        settings = profile.load_request().model_dump(mode="json", include=set(_SETTINGS), exclude_none=True)
        return written({**orjson.loads(call.body), "load": settings})

"""One call on its way through the fleet, and what neurons say that cannot serve it."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import orjson

from cortex import errors
from cortex.errors import CortexError
from cortex.gateway.fleet.client import refusal
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.proxy.call import Call
from cortex.gateway.proxy.observe import Totals
from cortex.gateway.routing.decisions import Serve
from cortex.net.headers import Headers
from cortex.wire import sse
from cortex.wire.errors import openai_event

MAX_ATTEMPTS = 3  # replicas that may fail one request
MOVED_RETRY_S = 2.0
MAX_MOVES = 10  # how often the model may have been unloaded by somebody else when the request got there


class NeuronAnswer(Exception):  # noqa: N818  an answer, raised because it ends the search for a better one
    """A neuron's own error, whole: it is passed on as it came."""

    def __init__(self, node: str, status: int, headers: Headers, body: bytes) -> None:
        super().__init__(f"{node} answered {status}")
        self.node = node
        self.status = status
        self.headers = [*headers, ("x-cortex-node", node)]
        self.body = body
        self.error = refusal(status, body)

    def event(self) -> bytes:
        """As the last event of a stream that has begun already."""
        try:
            said = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            said = None
        if isinstance(said, dict) and isinstance(said.get("error"), dict):
            return sse.event(orjson.dumps(said))
        return openai_event(self.error)


class Journey:
    """A call on its way: which replica it uses, which ones it tried, and what they said. Leaving the block frees the replica."""

    __slots__ = (
        "_attempts",
        "_clock",
        "_fleet",
        "_looked_at",
        "_moves",
        "_using",
        "began",
        "call",
        "decision",
        "failure",
        "replica",
        "totals",
        "tried",
    )

    def __init__(self, call: Call, fleet: Fleet, clock: Callable[[], float] = time.monotonic) -> None:
        self.call = call
        self.replica: Serve | None = None
        self.decision = "served loaded"
        self.tried: set[str] = set()
        self.failure: CortexError | NeuronAnswer | None = None
        self.began = 0.0
        self.totals: Totals | None = None
        self._fleet = fleet
        self._clock = clock
        self._attempts = 0
        self._moves = 0
        self._looked_at: set[str] = set()
        self._using: Serve | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._free()

    def _free(self) -> None:
        using, self._using = self._using, None
        if using is not None:
            self._fleet.leave(using.node, using.model_id)

    def use(self, replica: Serve) -> None:
        """Go to a replica, and be counted there."""
        self._free()
        self._fleet.enter(replica.node, replica.model_id)
        self._using = self.replica = replica
        self.began = self._clock()
        self._attempts += 1

    def looks_at(self, node: str) -> bool:
        """Whether the node's word is to be heard anew: once a call."""
        if node in self._looked_at:
            return False
        self._looked_at.add(node)
        return True

    def follow(self) -> None:
        """The model is not there any more: it is to be found anew. Raises CortexError when that goes on and on."""
        self._free()
        self._attempts -= 1
        self._moves += 1
        if self._moves >= MAX_MOVES:
            raise errors.unavailable(
                f"model '{self.call.model_id}' was unloaded {self._moves} times before this request got to it",
                retry_after=MOVED_RETRY_S,
            )

    def leave(self, failure: CortexError | NeuronAnswer, *, avoid: bool = True) -> None:
        """The replica cannot serve the call. Raises `failure` when enough were tried."""
        self._free()
        if self._attempts >= MAX_ATTEMPTS:
            raise failure
        self.failure = failure
        if avoid and self.replica:
            self.tried.add(self.replica.node)

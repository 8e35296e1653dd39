"""A neuron's control plane. What comes back is a typed value or a NeuronError; nothing else gets past this file.

A neuron is another program on another host: it may be old, broken or somebody else's. Its answers are bounded in size
and in time, and garbage is an error of that neuron only.

It is asked over a connection pool like the data plane's, and not with httpx: in front of a thousand neurons polling would
take most of a core with that (measured: 0.39, and 0.1 with the pool).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, TypeVar
from urllib.parse import quote

import orjson
from pydantic import TypeAdapter, ValidationError

from cortex import errors
from cortex.config.gateway import NeuronRef
from cortex.errors import CortexError
from cortex.gateway.fleet.addresses import inference_address
from cortex.net.address import Address
from cortex.net.errors import ConnectFailed, ConnectionLost, NetError
from cortex.net.headers import Headers
from cortex.net.pool import Pool
from cortex.wire import bearer
from cortex.wire.errors import error_of
from cortex.wire.fleet import Discovery, Health, Job, KeepRequest, LoadRequest, ModelEntry, UnloadRequest, YieldRequest

ANSWER_LIMIT_BYTES = 8 * 1024 * 1024
JOB_WAIT_S = 20.0  # one long poll for a job's end
CONNECT_S = 5.0
UNAUTHORIZED = 401
NOT_KNOWN = (
    "does not accept this gateway's token (401): its token_file, and what cortex.toml has for it, must hold the same"
)
KEEPALIVE_S = 30.0  # longer than the usual polling interval: a connection serves many polls

T = TypeVar("T")
_DISCOVERY = TypeAdapter(Discovery)
_HEALTH = TypeAdapter(Health)
_MODELS = TypeAdapter(tuple[ModelEntry, ...])
_JOB = TypeAdapter(Job)
_PERHAPS_HUGE = re.compile(rb"\d{19}|\d[eE]")  # what a number beyond 64 bits looks like


class NeuronError(Exception):
    """A neuron could not be asked, or its answer makes no sense; the message says which neuron and how."""


class NeuronRefusal(NeuronError):  # noqa: N818  reads as what happened
    """A neuron answered, and the answer is no. `error` is what it said, `for_client` what of that a client may be told."""

    def __init__(self, neuron: str, error: CortexError) -> None:
        unknown = error.status == UNAUTHORIZED  # between the two of them: no client's key is what it speaks of
        said = NOT_KNOWN if unknown else f"refused: {error.status} {error.message}"
        super().__init__(f"neuron '{neuron}' {said}")
        self.error = error
        self.for_client = errors.upstream_failed(str(self)) if unknown else error


_TRANSLATIONS: dict[type[Exception], str] = {
    TimeoutError: "did not answer in time",
    ConnectFailed: "cannot be reached",
    ConnectionLost: "broke off",
    NetError: "sent an answer that cannot be read",
    orjson.JSONDecodeError: "sent an answer that is not JSON",
    orjson.JSONEncodeError: "sent numbers beyond reason",
    ValidationError: "sent an answer of an unknown shape",
    ValueError: "sent an answer that makes no sense",
}


@contextlib.contextmanager
def _translated(neuron: str) -> Iterator[None]:
    try:
        yield
    except tuple(_TRANSLATIONS) as error:
        said = next(words for kind, words in _TRANSLATIONS.items() if isinstance(error, kind))
        detail = f": {error}" if isinstance(error, NetError) else ""
        raise NeuronError(f"neuron '{neuron}' {said}{detail}") from error


def new_pool() -> Pool:
    """Connections to all neurons."""
    return Pool(connect_timeout_s=CONNECT_S, keepalive_s=KEEPALIVE_S, max_idle_per_address=4)


class NeuronClient:
    """One neuron, asked over HTTP. Every call has a deadline for the whole of it: `timeout_s`, or `load_timeout_s` for loads.

    address      where it is, and whom `tls` trusts there
    credentials  the headers that it wants to see with every request
    elsewhere    whether it is believed when it reports models on other hosts
    """

    def __init__(
        self,
        ref: NeuronRef,
        pool: Pool,
        *,
        timeout_s: float,
        load_timeout_s: float,
        tls: ssl.SSLContext | None = None,
        elsewhere: bool = True,
    ) -> None:
        self.ref = ref
        self.name = ref.name
        self.address = Address.parse(ref.endpoint, tls)
        token = ref.token.get_secret_value() if ref.token else None
        self.credentials: Headers = (bearer.header(token),) if token else ()
        self.timeout_s = timeout_s
        self.load_timeout_s = load_timeout_s
        self._pool = pool
        self._elsewhere = elsewhere
        self._models: tuple[bytes, tuple[ModelEntry, ...]] | None = None

    def __repr__(self) -> str:
        return f"<NeuronClient {self.name} at {self.address}>"

    def credentials_for(self, address: Address) -> Headers:
        """What the neuron wants to see; its token goes to no other host, whatever it reports."""
        return self.credentials if self.address.host == address.host else ()

    # ---- questions

    async def discovery(self) -> Discovery:
        return await self._get("/discovery", _DISCOVERY)

    async def health(self) -> Health:
        return await self._get("/health", _HEALTH)

    async def models(self) -> tuple[ModelEntry, ...]:
        """Everything that the neuron has, also only on disk. The first generation ignores the query and tells what is loaded."""
        body = await self._body("/models?all=true")
        digest = blake2b(body, digest_size=16).digest()
        if self._models is None or self._models[0] != digest:  # mostly it is the last answer again
            self._models = digest, self._value(_MODELS, body)
        return self._models[1]

    async def inference_address(self, model_id: str) -> Address:
        """Where a loaded model's inference goes, as this gateway reaches it."""
        answer = await self._ask("GET", f"/models/{quote(model_id, safe='')}/endpoint")
        try:
            return inference_address(str(answer.get("url")), self.address, elsewhere=self._elsewhere)
        except ValueError as error:
            raise NeuronError(f"neuron '{self.name}' reports an endpoint that cannot be used: {error}") from error

    async def job(self, job_id: str, *, wait_s: float = 0) -> Job:
        """A job as it is at its end, or after `wait_s` seconds."""
        query = f"?wait={wait_s:g}" if wait_s else ""
        answer = await self._ask("GET", f"/jobs/{quote(job_id, safe='')}{query}", deadline_s=wait_s + self.timeout_s)
        return self._parsed(_JOB, answer.get("job", answer))

    # ---- commands

    async def load(self, request: LoadRequest) -> Job | None:
        """Start or join the load of a model. None: it is loaded. The first generation answers only when it is."""
        body = orjson.dumps(request.model_dump(mode="json", exclude_none=True))
        try:
            answer = await self._ask("POST", "/models/load", body, deadline_s=self.load_timeout_s)
        except NeuronRefusal as refusal:
            if "already loaded" in refusal.error.message:
                return None
            raise
        return self._parsed(_JOB, answer["job"]) if "job" in answer else None

    async def unload(self, request: UnloadRequest) -> None:
        """Returns when the model is out of memory."""
        body = orjson.dumps(request.model_dump(mode="json", exclude_none=True))
        await self._ask("POST", "/models/unload", body, deadline_s=self.load_timeout_s)

    async def keep(self, request: KeepRequest) -> None:
        """From now on the model stays for so long while it is idle."""
        await self._ask("POST", "/models/keep", orjson.dumps(request.model_dump(mode="json")))

    async def give_way(self, request: YieldRequest) -> None:
        """For a while the model takes nothing new."""
        await self._ask("POST", "/models/yield", orjson.dumps(request.model_dump(mode="json")))

    async def drain(self, *, on: bool) -> dict[str, Any]:
        """From now on it takes nothing new, or does so again. What it answered."""
        return await self._ask("POST", "/drain" if on else "/undrain")

    # ---- the wire

    async def _get(self, path: str, kind: TypeAdapter[T]) -> T:
        return self._value(kind, await self._body(path))

    async def _body(self, path: str) -> bytes:
        status, body = await self._call("GET", path, b"", self.timeout_s)
        if status >= 300:
            with _translated(self.name):
                raise NeuronRefusal(self.name, refusal(status, body))
        return body

    def _value(self, kind: TypeAdapter[T], body: bytes) -> T:
        with _translated(self.name):
            value = kind.validate_json(body)
            if _PERHAPS_HUGE.search(body):
                orjson.dumps(kind.dump_python(value, mode="json"))  # such numbers end here, and in no answer of ours
            return value

    async def _ask(
        self, method: str, path: str, body: bytes = b"", *, deadline_s: float | None = None
    ) -> dict[str, Any]:
        status, answer = await self._call(method, path, body, self.timeout_s if deadline_s is None else deadline_s)
        if status >= 300:
            raise NeuronRefusal(self.name, refusal(status, answer))
        with _translated(self.name):
            parsed = orjson.loads(answer)
            if not isinstance(parsed, dict):
                raise ValueError("not an object")  # noqa: TRY004  translated with the other nonsense
            return parsed

    async def _call(self, method: str, path: str, body: bytes, deadline_s: float) -> tuple[int, bytes]:
        headers = [("content-type", "application/json")] if body else []
        status, _, answer = await self.exchange(method, path, body, headers, deadline_s)
        return status, answer

    async def exchange(
        self, method: str, path: str, body: bytes, headers: Headers, deadline_s: float
    ) -> tuple[int, Headers, bytes]:
        """Any answer, whole: status, headers, body. Raises NeuronError when there is none."""
        headers = [*self.credentials, ("accept-encoding", "identity"), *headers]
        with _translated(self.name):
            async with asyncio.timeout(deadline_s):
                asking = self._pool.open(self.address, method, path, headers=headers, body=body)
                async with await asking as exchange:
                    return exchange.status, exchange.headers, await exchange.read_all(ANSWER_LIMIT_BYTES)

    def _parsed(self, kind: TypeAdapter[T], value: Any) -> T:
        with _translated(self.name):
            return kind.validate_python(value, strict=False)


def refusal(status: int, body: bytes) -> CortexError:
    """A neuron's error body as ours: nested as ours is, or a flat string as in the first generation."""
    try:
        said = orjson.loads(body).get("error")
    except (orjson.JSONDecodeError, AttributeError):
        said = None
    return error_of(said, status if 400 <= status < 600 else 502)

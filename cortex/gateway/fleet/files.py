"""A neuron's files of models, asked for and sent piece by piece (wire/sync.py). What goes wrong is a NeuronError."""

from __future__ import annotations

from typing import NamedTuple, TypeVar
from urllib.parse import quote

import orjson
from pydantic import ValidationError

from cortex.gateway.fleet.client import NeuronClient, NeuronError, NeuronRefusal, refusal
from cortex.net.headers import Headers
from cortex.wire.fleet import Wire
from cortex.wire.sync import Arrived, Hashing, Offer, Receive, Receiving

ANSWER_S = 30.0  # for a piece to be read or written, and its way

W = TypeVar("W", bound=Wire)


class Piece(NamedTuple):
    """Bytes of a file as they came, with what the one who read them says of them: `Content-Range`, `Content-Digest`."""

    data: bytes
    span: str
    digest: str


class ModelFiles:
    """Those of one neuron."""

    def __init__(self, client: NeuronClient) -> None:
        self._client = client

    async def offer(self, model_id: str) -> Offer | Hashing:
        status, _, body = await self._ask("GET", _path(model_id))
        return self._parsed(Hashing, body) if status == 202 else self._parsed(Offer, body)

    async def piece(self, model_id: str, sha256: str, first: int, last: int) -> Piece:
        _, headers, data = await self._ask("GET", _path(model_id, sha256), headers=[("range", f"bytes={first}-{last}")])
        told = dict(headers)
        return Piece(data, told.get("content-range", ""), told.get("content-digest", ""))

    async def receive(self, model_id: str, announced: Receive) -> Receiving:
        _, _, body = await self._ask("POST", _path(model_id), orjson.dumps(announced.model_dump()))
        return self._parsed(Receiving, body)

    async def put(self, model_id: str, sha256: str, piece: Piece) -> Arrived:
        headers = [("content-range", piece.span), ("content-digest", piece.digest)]
        _, _, body = await self._ask("PUT", _path(model_id, sha256), piece.data, headers)
        return self._parsed(Arrived, body)

    async def _ask(
        self, method: str, path: str, body: bytes = b"", headers: Headers = ()
    ) -> tuple[int, Headers, bytes]:
        status, told, answer = await self._client.exchange(method, path, body, headers, ANSWER_S)
        if status >= 300:
            raise NeuronRefusal(self._client.name, refusal(status, answer))
        return status, told, answer

    def _parsed(self, kind: type[W], body: bytes) -> W:
        try:
            return kind.model_validate_json(body)
        except ValidationError as error:
            raise NeuronError(f"neuron '{self._client.name}' sent an answer of an unknown shape") from error


def _path(model_id: str, sha256: str = "") -> str:
    return f"/models/{quote(model_id, safe='')}/files" + (f"/{sha256}" if sha256 else "")

"""Requests as the neuron sends them, and answers as its clients get them, over a real engine and without HTTP in front."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from cortex.errors import CortexError
from cortex.net.pool import Pool
from cortex.net.relay import EventTail
from cortex.neuron.engine.process import EngineProcess
from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.harness.base import Prepared, Translation
from cortex.neuron.harness.llamacpp import LlamaCpp

JSON = [("content-type", "application/json")]


async def recorded(engine: EngineProcess, path: str, prepared: Prepared) -> bytes:
    """What the engine says to a prepared request."""
    async with (
        Pool(keepalive=False) as pool,
        await pool.open(engine.address, "POST", path, headers=JSON, body=orjson.dumps(prepared.body)) as exchange,
    ):
        body = await exchange.read_all(1 << 22)
        if exchange.status != 200:
            raise LlamaCpp().engine_error(exchange.status, body)
        return body


async def translated(engine: EngineProcess, path: str, body: dict[str, Any], spec: EngineSpec) -> bytes:
    """The whole way: prepared, asked, and translated in pieces as they might come."""
    prepared = LlamaCpp().prepare(path, body, spec)
    assert prepared.translation
    return in_pieces(prepared.translation, await recorded(engine, path, prepared), size=700)


def in_pieces(translation: Translation, said: bytes, *, size: int) -> bytes:
    """An engine's stream cut into pieces of `size` bytes → what the client gets. Raises CortexError where it failed."""
    tail, out = EventTail(), bytearray()
    for at in range(0, len(said), size):
        if events := tail.push(said[at : at + size]):
            out += translation.push(events)
        if translation.failure:
            raise translation.failure
    return bytes(out) + translation.end()


def chunks(stream: bytes) -> list[dict[str, Any]]:
    """The chunks of a stream, without comments and its end."""
    blocks = [block[6:] for block in stream.split(b"\n\n") if block.startswith(b"data: ")]
    return [orjson.loads(block) for block in blocks if block != b"[DONE]"]


def deltas(stream: bytes) -> Iterator[dict[str, Any]]:
    for chunk in chunks(stream):
        for choice in chunk["choices"]:
            yield choice["delta"]


def never(_error: dict[str, Any]) -> CortexError:
    raise AssertionError("the engine did not fail in this test")

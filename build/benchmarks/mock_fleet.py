"""Many neurons in one process: `python -m benchmarks.mock_fleet PORT COUNT MODELS` speaks for COUNT hosts, one loopback address each.

Every host has MODELS models of a thousand on disk and four of them in memory. On every fifth somebody is always using one,
so that its answers differ from poll to poll; the others have nothing new to tell, as most hosts most of the time.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import time

import orjson
import uvloop

from benchmarks.mock_neuron import MockNeuron

KINDS = 1000  # different models in the whole fleet
LOADED = 4
MODEL_MB = 3000
TOTAL_MB = 16_000
EVERY_BUSY = 5
DISCOVERY = {"hostname": "mock", "devices": [], "harnesses": ["llamacpp"], "memory_total_mb": TOTAL_MB, "version": "0"}


def address(number: int) -> str:
    """The loopback address of a host."""
    return f"127.1.{number // 200}.{number % 200 + 1}"


class Host(dict[bytes, bytes]):
    """What one neuron answers by path, as `MockNeuron` looks it up."""

    def __init__(self, number: int, port: int, models: int) -> None:
        super().__init__()
        chance = random.Random(number)
        self._endpoint = f"http://{address(number)}:{port}"
        self._busy = number % EVERY_BUSY == 0
        self._free_mb = TOTAL_MB - LOADED * MODEL_MB + chance.randrange(-1000, 0)
        self._entries: list[dict[str, object]] = [
            {
                "id": f"org/model-{kind}",
                "harness": "llamacpp",
                "status": "loaded" if place < LOADED else "unloaded",
                "devices": [],
                "vram_used_mb": MODEL_MB if place < LOADED else None,
                "vram_estimate_mb": MODEL_MB,
                "quant": "Q4_K_M",
                "size_bytes": 2 << 30,
                "last_used": 1.0 + place if place < LOADED else None,
            }
            for place, kind in enumerate(chance.sample(range(KINDS), models))
        ]
        self._models = orjson.dumps(self._entries)
        self._polls = itertools.count(1)

    def get(self, path: bytes, default: bytes | None = None) -> bytes | None:  # type: ignore[override]
        """The whole answer, head and body."""
        if path == b"/models":
            return _json(self._listed())
        if path == b"/health":
            return _json(orjson.dumps(self._health()))
        if path == b"/discovery":
            return _json(orjson.dumps(DISCOVERY))
        return _json(b'{"url":"%s"}' % self._endpoint.encode()) if path.endswith(b"/endpoint") else default

    def _listed(self) -> bytes:
        if not self._busy:
            return self._models
        self._entries[0]["last_used"] = time.time()
        return orjson.dumps(self._entries)

    def _health(self) -> dict[str, object]:
        models = [{"id": entry["id"], "last_used": entry["last_used"]} for entry in self._entries[:LOADED]]
        if self._busy:
            models[0] |= {"in_flight": 1 + next(self._polls) % 3}
        return {
            "uptime_secs": 1,
            "memory_free_mb": self._free_mb,
            "disk_free_mb": 10**6,
            "models": models,
            "time": time.time(),
        }


def _json(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def serve(port: int, count: int, models: int) -> None:
    loop = asyncio.get_running_loop()
    for number in range(count):
        host = Host(number, port, models)
        await loop.create_server(lambda host=host: MockNeuron(host), address(number), port)  # type: ignore[misc]
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(*map(int, sys.argv[1:4])))

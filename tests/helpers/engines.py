"""Real engines for tests: one thread each, small contexts, bounded answers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson

from cortex.net.pool import Pool
from cortex.neuron.engine.process import EngineProcess
from cortex.neuron.engine.spec import EngineSpec

DEADLINE_S = 60


def engine_spec(model: Path, folder: Path, **more: Any) -> EngineSpec:
    """A specification of the llama.cpp engine with its socket in `folder`."""
    fields: dict[str, Any] = {
        "harness": "llamacpp",
        "alias": "org/model",
        "model_path": str(model),
        "socket_path": str(folder / "engine.sock"),
        "context": 2048,
        "batch": 64,
        "max_output_tokens": 200,
        **more,
    }
    return EngineSpec(**fields)


@contextlib.asynccontextmanager
async def running_engine(
    spec: EngineSpec, on_log: Callable[[str], None] | None = None, *, deadline_s: float = DEADLINE_S
) -> AsyncIterator[EngineProcess]:
    engine = await EngineProcess.start(spec, deadline_s=deadline_s, on_log=on_log)
    try:
        yield engine
    finally:
        await engine.stop()


async def ask(engine: EngineProcess, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """One request to an engine: status and JSON."""
    headers = [("content-type", "application/json")]
    async with (
        Pool(keepalive=False) as pool,
        await pool.open(engine.address, "POST", path, headers=headers, body=orjson.dumps(body)) as exchange,
    ):
        return exchange.status, orjson.loads(await exchange.read_all(1 << 20))


def says(text: str, **more: Any) -> dict[str, Any]:
    """A chat request with one user message."""
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 32, **more}


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))

"""A gateway and a neuron with tiny real models in this process, beside the documents of their APIs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.described import Api
from helpers.legacy_ggml import write_legacy_models
from helpers.live import SCRIPTED, SCRIPTED_MODEL, Live, live, running_neuron

from cortex.config.catalogue import Catalogue
from cortex.config.gateway import GatewayConfig
from cortex.config.loader import validate
from cortex.gateway import app as gateway_app

EMBED, RANK, LEGACY, ALIAS = "embed", "rank", "gpt2", "claude-local"
TOKENS = 8  # the most of any answer: whatever a request says
SMALL: dict[str, Any] = {"threads": 1, "max_output_tokens": TOKENS}
LOADED: list[dict[str, Any]] = [
    SCRIPTED_MODEL | SMALL,
    {"model_id": EMBED, "context": 2048, "mode": "embedding", **SMALL},
    {"model_id": RANK, "context": 2048, "mode": "rerank", **SMALL},
    {"model_id": LEGACY, "chat_template": "chatml", **SMALL},
]
CATALOGUE: dict[str, Any] = {
    "models": [{"id": each["model_id"], **{key: each[key] for key in each if key != "model_id"}} for each in LOADED],
    "aliases": {ALIAS: SCRIPTED},
}


@dataclass(frozen=True)
class Role:
    """A role that runs, and what it says that it serves."""

    name: str
    live: Live
    api: Api


def scripted_folder(scripted_model: Path, folder: Path) -> Path:
    """A `models_dir` whose three GGUF models are one file, with models of before GGUF beside them."""
    folder.mkdir(exist_ok=True)
    write_legacy_models(folder)
    for name in (SCRIPTED, EMBED, RANK):
        (folder / f"{name}.gguf").symlink_to(scripted_model)
    return folder


@contextlib.asynccontextmanager
async def described_fleet(folder: Path, models: Sequence[dict[str, Any]] = LOADED) -> AsyncIterator[tuple[Role, Role]]:
    """(gateway, neuron), with `models` loaded."""
    settings = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", "neuron_token": "shared"}
    async with running_neuron(folder) as neuron:
        for model in models:
            answer = await neuron.load(model)
            assert answer.status_code == 200, answer.text
        told = {"gateway": settings, "neurons": [{"name": "local", "endpoint": neuron.url}]}
        config = validate(GatewayConfig, told, source="test")
        async with (
            gateway_app.running(config, validate(Catalogue, CATALOGUE, source="test")) as handle,
            live(f"http://{handle.listen}") as gateway,
        ):
            yield (
                Role("gateway", gateway, Api(await gateway.get("/openapi.json"))),
                Role("neuron", neuron, Api(await neuron.get("/openapi.json"))),
            )

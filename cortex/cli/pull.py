"""`cortex pull REPO[:QUANT]`: download a model to this host, as its neuron would, or into a folder to be carried elsewhere."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from cortex.cli.outcome import Exit, Failure
from cortex.cli.show import Advance, progress
from cortex.errors import CortexError
from cortex.neuron.models.source.hub import Hub
from cortex.neuron.models.source.local import LocalModel
from cortex.neuron.models.source.resolve import parse_repo
from cortex.wire.fleet import JobStage


def pull(args: argparse.Namespace) -> int:
    wanted = parse_repo(args.model)
    if wanted is None:
        raise Failure(f"'{args.model}' is no repository: say ORG/NAME or ORG/NAME:QUANT", Exit.usage)
    folder: Path | None = args.to and args.to.absolute()
    try:
        with progress() as advance:
            model = asyncio.run(_fetch(Hub.from_environment(to=folder), *wanted, advance))
    except CortexError as error:
        raise Failure(error.message, Exit.damaged if error.code == "download_corrupt" else Exit.failed) from error
    print(json.dumps(_told(model)) if args.json else model.path)
    return Exit.ok


def _told(model: LocalModel) -> dict[str, Any]:
    return {
        "model_id": model.id,
        "repo": model.repo,
        "quant": model.quant,
        "files": [str(path) for path in model.files],
        "mmproj": str(model.mmproj) if model.mmproj else None,
        "size_bytes": model.size_bytes,
    }


async def _fetch(hub: Hub, repo: str, quant: str | None, advance: Advance) -> LocalModel:
    stage = JobStage.queued

    def on_stage(new: JobStage) -> None:
        nonlocal stage
        stage = new
        advance(f"{repo}: {stage}", 0, None)

    def on_progress(done: int, total: int | None) -> None:
        advance(f"{repo}: {stage}", done, total)

    return await hub.fetch(repo, quant, with_mmproj=True, on_stage=on_stage, on_progress=on_progress)

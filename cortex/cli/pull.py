"""`cortex pull REPO[:QUANT]`: download a model to this host, as its neuron would."""

from __future__ import annotations

import argparse
import asyncio

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
    try:
        with progress() as advance:
            model = asyncio.run(_fetch(Hub.from_environment(args.to), *wanted, advance))
    except CortexError as error:
        raise Failure(error.message) from error
    print(model.path)
    return Exit.ok


async def _fetch(hub: Hub, repo: str, quant: str | None, advance: Advance) -> LocalModel:
    stage = JobStage.queued

    def on_stage(new: JobStage) -> None:
        nonlocal stage
        stage = new
        advance(f"{repo}: {stage}", 0, None)

    def on_progress(done: int, total: int | None) -> None:
        advance(f"{repo}: {stage}", done, total)

    return await hub.fetch(repo, quant, on_stage=on_stage, on_progress=on_progress)

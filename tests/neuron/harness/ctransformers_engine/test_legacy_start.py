"""An engine that cannot begin to serve ends at once, and says why."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from helpers.engines import engine_spec, running_engine

from cortex.neuron.engine.outcome import EngineFailed

pytestmark = pytest.mark.model


def test_a_socket_that_cannot_be_bound_ends_the_start(legacy_dir: Path, tmp_path: Path) -> None:
    """The reason is told at once, as a failure to start and not as a time that ran out."""

    async def scenario() -> None:
        folder = tmp_path / "absent"
        spec = engine_spec(legacy_dir / "gpt2.bin", folder, harness="ctransformers", context=64, parallel=1)
        with pytest.raises(EngineFailed) as caught:
            async with running_engine(spec, deadline_s=10):
                pass
        assert caught.value.kind == "start"
        assert "No such file or directory" in caught.value.reason
        assert str(folder) not in caught.value.reason

    asyncio.run(scenario())

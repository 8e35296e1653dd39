"""Vocabulary engines: one for each model, ended by those who own them alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from helpers.processes import children

from cortex.neuron.gguf import read_header
from cortex.neuron.harness.llamacpp import LlamaCpp
from cortex.neuron.models import vocabulary
from cortex.neuron.models.source import LocalModel
from cortex.neuron.models.vocabulary import Vocabularies
from cortex.tasks import running

pytestmark = pytest.mark.model


def _local(path: Path, name: str = "m") -> LocalModel:
    header = read_header(path)
    return LocalModel(name, None, None, (path,), header.file_bytes, None, "models_dir", header)


def test_an_error_of_whoever_uses_an_engine_is_no_error_of_the_engine(scripted_model, socket_dir):
    """It is the caller's to hear, and the engine serves the next one."""

    async def scenario():
        async with Vocabularies(socket_dir).running() as vocabularies:
            with pytest.raises(OSError, match="mine"):
                async with vocabularies.use(_local(scripted_model), LlamaCpp(), None) as first:
                    raise OSError("mine")
            async with vocabularies.use(_local(scripted_model), LlamaCpp(), None) as second:
                assert second.pid == first.pid
                assert children() == {first.pid}

    asyncio.run(scenario())


def test_an_engine_that_came_into_use_meanwhile_is_not_ended_to_make_room(scripted_model, socket_dir, monkeypatch):
    """Several idle ones have to go, one after the other; who is asked while the first one goes stays."""
    monkeypatch.setattr(vocabulary, "MAX_ENGINES", 2)
    model, templates = _local(scripted_model), ["1", "2", "3"]

    async def scenario():
        async with Vocabularies(socket_dir).running() as vocabularies:
            pids = []
            for template in templates[:2]:
                async with vocabularies.use(model, LlamaCpp(), template) as engine:
                    pids.append(engine.pid)
            monkeypatch.setattr(vocabulary, "MAX_ENGINES", 1)

            async def third() -> None:
                async with vocabularies.use(model, LlamaCpp(), templates[2]):
                    pass

            async with running(third(), name="third") as asking:
                await asyncio.sleep(0)
                assert len(vocabularies._known) == 1
                assert not asking.done()
                async with vocabularies.use(model, LlamaCpp(), templates[1]) as engine:
                    assert engine.pid == pids[1]
                    await asking
                    assert engine.memory_mb() is not None

    asyncio.run(scenario())

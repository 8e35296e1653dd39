"""A header to vary, and a specification to check requests against."""

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.gguf_bytes import write_tiny

from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.gguf import Header, read_header


@pytest.fixture(scope="session")
def header(tmp_path_factory) -> Header:
    """A chat model with a context of 131,072 tokens."""
    path = write_tiny(tmp_path_factory.mktemp("header") / "tiny.gguf")
    return replace(read_header(path), context_length=131_072, chat_template="{{ messages }}{{ tools }}")


@pytest.fixture
def spec() -> EngineSpec:
    """A chat engine with four slots."""
    return EngineSpec(harness="llamacpp", alias="org/model", model_path=str(Path("/m.gguf")), socket_path="/e.sock")

"""A command that reaches something that is no cortex says so, and makes no mistake of ours of it."""

from __future__ import annotations

import pytest
from helpers.scripted_neuron import scripted_neuron

from cortex.cli import main

COMMANDS = ["status", "models", "load m", "load m --no-wait", "unload m", "plan m", "drain a", "undrain a", "push m a"]


@pytest.mark.parametrize("answer", [b"{}", b"[]", b"null", b'{"status": "ok"}'])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_cortex_is_asked_about(command: str, answer: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON alone is no sign of one: many programs answer with some."""
    with scripted_neuron() as server:
        server.chat = server.load = (200, answer)
        assert main([*command.split(), "-e", f"http://127.0.0.1:{server.port}"]) == 1
    said = capsys.readouterr()
    assert "is it a cortex?" in said.err
    assert "internal error" not in said.err
    assert said.out == ""

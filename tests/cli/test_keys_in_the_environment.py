"""The API key and the token that the command line takes from the environment."""

from __future__ import annotations

import pytest

from cortex.cli import main


@pytest.mark.parametrize("secret", ["sk-quite-secret\r", "sk-quite-secret\n", "sk-quite-sécret"])
@pytest.mark.parametrize(
    ("variable", "command"), [("CORTEX_API_KEY", ["status", "-e"]), ("NEURON_TOKEN", ["validate"])]
)
def test_a_secret_that_is_none_is_refused_and_not_told(
    variable: str,
    command: list[str],
    secret: str,
    unused_port: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A line break from a file, a letter that no header holds: the variable is named, its value is not."""
    monkeypatch.setenv(variable, secret)
    assert main([*command, f"http://127.0.0.1:{unused_port}"]) == 2
    said = capsys.readouterr().err
    assert variable in said
    assert "quite" not in said

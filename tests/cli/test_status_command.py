"""`cortex status`: whoever reads it at night knows what is wrong, where, and since when."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from cortex.cli import status

UP: dict[str, Any] = {
    "name": "beast",
    "endpoint": "http://10.0.0.11:13131",
    "healthy": True,
    "draining": False,
    "models": [{"id": "org/m", "status": "loaded", "in_flight": 1, "queue_depth": 0}],
}
DOWN = UP | {"healthy": False, "last_poll_age_secs": 34.2, "problem": "did not answer in time"}


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *nodes: Any, **config: Any) -> str:
    """The text of a fleet as a gateway tells it."""

    async def told(*_asked: str) -> Any:
        return {"status": "impaired", "config": config, "nodes": nodes}

    monkeypatch.setattr(status, "_get", told)
    assert status.status(argparse.Namespace(endpoint="", json=False)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (UP, ["beast   up ", "loaded", "1 + 0 waiting"]),
        (DOWN, ["down for 34 s", "was loaded", "beast: did not answer in time"]),
        (DOWN | {"draining": True}, ["draining, down for 34 s"]),
        (DOWN | {"last_poll_age_secs": None}, ["beast   down "]),
        (UP | {"cut_off": True}, ["cut off", "beast: requests to it fail"]),
        (UP | {"draining": True}, ["beast   draining "]),
    ],
)
def test_a_neurons_state_is_told_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], node: Any, words: list[str]
) -> None:
    """Down since when and why; what it had is told as of then; one that gets no requests is not called up."""
    out = said(monkeypatch, capsys, node)
    assert [each for each in words if each not in out] == []


def test_a_configuration_that_was_not_taken_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the operator believes that the file says what is in force."""
    out = said(
        monkeypatch, capsys, UP, error="cortex.toml: x: unknown key\ncortex.toml: y: unknown key", restart_for=[]
    )
    assert "configuration: the files as they are now are not in force: cortex.toml: x: unknown key; cortex" in out
    out = said(monkeypatch, capsys, UP, error=None, restart_for=["gateway.listen"])
    assert "configuration: in force after a restart only: gateway.listen" in out

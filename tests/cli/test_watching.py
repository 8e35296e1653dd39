"""When a configuration is read again: its files are watched from the moment in which they were read."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.waiting import until

from cortex.cli import roles
from cortex.cli.parser import parse
from cortex.cli.reloading import Part, State, reloading, state_of


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cortex.cli.reloading.WATCH_S", 0.02)


class Watched:
    """A gateway's file, and a part that takes over what is read of it. `polls` are the intervals that it took over."""

    def __init__(self, folder: Path, check: Callable[[roles.Settings], None] = lambda _settings: None) -> None:
        self.file = folder / "cortex.toml"
        self.polls: list[float] = []
        self.rejected: list[str] = []
        self.write(1)
        self.args: argparse.Namespace = parse(["--role", "gateway", "-c", str(self.file)])
        self.read: State = state_of(roles.watched_files(self.args, {}, roles.settings(self.args, {})))
        self.part = Part(check, self._apply, self.rejected.append)

    def write(self, poll_interval_secs: int, more: str = "") -> None:
        new = self.file.with_suffix(".new")
        new.write_text(f"[gateway]\npoll_interval_secs = {poll_interval_secs}\n{more}\n")
        new.rename(self.file)

    async def _apply(self, settings: roles.Settings) -> None:
        assert settings.gateway
        self.polls.append(settings.gateway.gateway.poll_interval_secs)


def test_what_changed_while_the_role_started_is_noticed(tmp_path: Path) -> None:
    """A start takes its time, and what was written meanwhile is not in force yet."""
    watched = Watched(tmp_path)
    watched.write(2)

    async def scenario() -> None:
        async with reloading(watched.args, {}, watched.read, [watched.part]):
            await until(lambda: watched.polls == [2.0])

    asyncio.run(scenario())


def test_a_mistake_of_ours_does_not_end_the_watch(tmp_path: Path) -> None:
    """It is told, what was in force stays so, and the next change is taken over."""
    mistakes = [RuntimeError("nobody thought of it")]

    def check(_settings: roles.Settings) -> None:
        if mistakes:
            raise mistakes.pop()

    watched = Watched(tmp_path, check)

    async def scenario() -> None:
        async with reloading(watched.args, {}, watched.read, [watched.part]):
            watched.write(2)
            await until(lambda: watched.rejected)
            watched.write(3)
            await until(lambda: watched.polls == [3.0])

    asyncio.run(scenario())
    assert watched.rejected == ["internal error; the log has the details"]


def test_a_file_that_a_refused_configuration_names_is_waited_for(tmp_path: Path) -> None:
    """Its maker is half way through: what is missing comes next, and then the whole is taken over."""
    watched = Watched(tmp_path)

    async def scenario() -> None:
        async with reloading(watched.args, {}, watched.read, [watched.part]):
            watched.write(2, "neuron_token_file = 'token'")
            await until(lambda: watched.rejected)
            (tmp_path / "token").write_text("of-all-neurons")
            await until(lambda: watched.polls == [2.0])

    asyncio.run(scenario())
    assert "token" in watched.rejected[0]


def test_the_authority_of_neurons_that_join_is_watched(tmp_path: Path) -> None:
    """Also while none is configured: it may be renewed like any other."""
    watched = Watched(tmp_path)
    watched.write(1, "neuron_tls_ca = 'authority.pem'")
    found = roles.watched_files(watched.args, {}, roles.settings(watched.args, {}))
    assert tmp_path / "authority.pem" in found

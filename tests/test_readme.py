"""The README tells the truth: its commands run, in order, against a real demo; its files load; its Python works.

Addresses are put on free ports first, and 10.0.0.x on loopback; nothing else of the text is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, get_args

import httpx
import pytest
from benchmarks.ports import free_ports
from helpers.demo import ROOT, running_demo
from helpers.waiting import until
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cortex.config.catalogue import Catalogue
from cortex.config.gateway import GatewayConfig
from cortex.config.listen import Listen
from cortex.config.neuron import NeuronConfig
from cortex.neuron.harness.settings import OUTPUT_BOUND

README = (ROOT / "README.md").read_text()
STARTED_ELSEWHERE = {
    "build/up",  # by the fixture
    "build/test",  # runs this very test
}


def section(title: str) -> str:
    """The text below a heading; an empty one is a heading that was renamed."""
    text = README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert text, f"README.md has no section '{title}'"
    return text


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    return [line for block in blocks(text, "sh") for line in block.splitlines() if line not in STARTED_ELSEWHERE]


def files(text: str) -> dict[str, str]:
    """The configuration files that a text shows: each begins with its name as a comment."""
    return {block.splitlines()[0].removeprefix("# "): block for block in blocks(text, "toml")}


def placed(text: str, places: dict[str, str]) -> str:
    """`text` with its addresses on free ports of this host, and its folders where they are here."""
    for theirs, here in places.items():
        text = text.replace(theirs, here)
    return text


@dataclass
class Shell:
    """Runs a README's commands in one folder as a newcomer would, and ends what it started."""

    folder: Path
    places: dict[str, str]
    environ: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.folder.mkdir(exist_ok=True)
        (self.folder / ".curlrc").write_text("fail\nmax-time = 60\n")  # an HTTP error is a failure, a hang is one too
        path = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
        self.environ = {**os.environ, "PATH": path, "CURL_HOME": str(self.folder), **self.environ}
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.started):
            process.terminate()
            assert process.wait(timeout=30) == 0

    def write(self, named: dict[str, str]) -> None:
        for name, text in named.items():
            (self.folder / name).write_text(placed(text, self.places))

    def run(self, command: str) -> str:
        """Run a command to its end. `validate` has three tries: the demo's model misses one time in twelve."""
        for _ in range(3 if "validate" in command else 1):
            done = subprocess.run(
                ["bash", "-c", placed(command, self.places)],
                cwd=self.folder,
                env=self.environ,
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )
            if done.returncode == 0:
                break
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, command: str, url: str) -> None:
        """Start what runs until it is stopped, and wait until it answers at `url`."""
        words = shlex.split(placed(command, self.places))
        process = subprocess.Popen(words, cwd=self.folder, env=self.environ)
        self.started.append(process)
        asyncio.run(until(lambda: process.poll() is not None or answers(url), within_s=60))
        assert process.poll() is None, f"{command} ended"


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.model
@pytest.mark.slow
def test_the_first_requests_work(tmp_path: Path) -> None:
    """With the demo running, every request and command succeeds as it stands, and so does the Python."""
    with running_demo() as demo:
        places = {"127.0.0.1:31313": f"127.0.0.1:{demo.port}", "127.0.0.1:31314": f"127.0.0.1:{demo.port + 1}"}
        environ = {"CORTEX_ENDPOINT": demo.url, "NEURON_PORT": str(demo.port + 2)}
        with Shell(tmp_path, places, environ) as shell:
            for command in commands(section("Two commands")) + commands(section("First requests")):
                shell.run(command)
            assert "Paris" in json.loads((tmp_path / "answer.json").read_text())["choices"][0]["message"]["content"]
            (script,) = blocks(README, "python")
            (tmp_path / "ask.py").write_text(placed(script, places))
            assert "Paris" in shell.run("python ask.py")
            told = "".join(shell.run(command) for command in commands(section("Metrics")))
        named = set(re.findall(r"`(cortex_[a-z_]+)`", section("Metrics")))
        assert {name for name in named if name not in told} == set()


@pytest.mark.slow
def test_ones_own_models_are_served(tmp_path: Path, models_dir: Path) -> None:
    """`--role all` with a folder and nothing else serves what is in it."""
    first = free_ports(3)
    environ = {
        "CORTEX_GATEWAY__LISTEN": f"127.0.0.1:{first}",
        "CORTEX_GATEWAY__METRICS_LISTEN": f"127.0.0.1:{first + 1}",
        "NEURON_PORT": str(first + 2),
    }
    (command,) = commands(section("Your own models, one host"))
    with Shell(tmp_path, {"/srv/models": str(models_dir)}, environ) as shell:
        shell.start(command, f"http://127.0.0.1:{first}")
        assert "scripted" in shell.run(f"cortex models -e http://127.0.0.1:{first}")


@pytest.mark.slow
def test_a_fleet_is_five_minutes(tmp_path: Path, models_dir: Path) -> None:
    """The files and commands of the fleet, on three hosts that are folders here: both neurons are up at the end."""
    text = section("A fleet in five minutes")
    on_hosts, on_gateway = (block.splitlines() for block in blocks(text, "sh"))
    gateway, beast, benjy = (free_ports(3) for _ in range(3))
    places = {
        "0.0.0.0:31313": f"127.0.0.1:{gateway}",
        "0.0.0.0:31314": f"127.0.0.1:{gateway + 1}",
        "10.0.0.10:31313": f"127.0.0.1:{gateway}",
        "10.0.0.11:13131": f"127.0.0.1:{beast}",
        "10.0.0.12:13131": f"127.0.0.1:{benjy}",
        "/srv/models": str(models_dir),
        '"0.0.0.0"': '"127.0.0.1"',
    }
    with contextlib.ExitStack() as stack:
        for name, port in (("beast", beast), ("benjy", benjy)):
            host = stack.enter_context(Shell(tmp_path / name, {**places, "port = 13131": f"port = {port}"}))
            host.write(files(text))
            check, serve = on_hosts
            host.run(check)
            host.start(serve, f"http://127.0.0.1:{port}")
        front = stack.enter_context(Shell(tmp_path / "gateway", places))
        front.write(files(text))
        check, serve, status = on_gateway
        front.run(check)
        front.start(serve, f"http://127.0.0.1:{gateway}")
        shown = front.run(status)
        assert [name for name in ("beast", "benjy") if name not in shown] == []


def test_no_command_is_left_out() -> None:
    """Every shell block is in a section that a test above runs."""
    run = ["Two commands", "First requests", "Your own models, one host", "A fleet in five minutes", "Metrics"]
    assert sum(len(blocks(section(title), "sh")) for title in run) == len(blocks(README, "sh"))


KINDS: dict[str, type[BaseModel]] = {
    "cortex.toml": GatewayConfig,
    "neuron.toml": NeuronConfig,
    "models.toml": Catalogue,
}


def settings() -> list[tuple[str, str, str]]:
    """File, key and told default of each key in the configuration tables; cells of several keys have as many defaults, or words for all."""
    tables = re.findall(r"\| (\w+\.toml) \| Default \| \|\n\|[-|]+\n((?:\|.*\n)+)", section("Configuration"))
    assert [name for name, _ in tables] == list(KINDS)
    told = []
    for name, rows in tables:
        for row in rows.splitlines():
            keys, defaults = re.findall(r"`([a-z_.]+)`", row.split("|")[1]), row.split("|")[2].split(", ")
            same = defaults if len(defaults) == len(keys) else defaults[:1] * len(keys)
            told += [(name, key, default.strip(" `")) for key, default in zip(keys, same, strict=True)]
    return told


def test_every_key_of_the_tables_exists() -> None:
    """The configuration tables name keys as the files have them."""
    for name, key, _ in settings():
        assert field_of(KINDS[name], key), f"{name} has no {key}"


def test_the_defaults_of_the_tables_are_the_real_ones() -> None:
    """Of every key that has one in the configuration itself; what is decided later is told in words."""
    compared = []
    for name, key, told in settings():
        found = field_of(KINDS[name], key)
        real = found.default if found and not found.is_required() else None
        if isinstance(real, str | int | float | Listen):
            said = f"{real:g}" if type(real) in (int, float) else str(real)
            assert said.lower() == told, f"{name}: {key}"
            compared.append(key)
    assert {"gateway.listen", "port", "sync.accept", "gateway.wait", "gateway.load_timeout_secs"} <= set(compared)


def test_the_bound_of_an_answer_is_the_real_one() -> None:
    """The README names the number of tokens after which an unbounded request ends."""
    assert f"ends after {OUTPUT_BOUND} tokens" in section("Choices that nothing prescribes")


def field_of(kind: type[BaseModel], key: str) -> FieldInfo | None:
    name, _, rest = key.partition(".")
    inner = kind.model_fields.get(name)
    if inner is None or not rest:
        return inner
    candidates = [inner.annotation, *get_args(inner.annotation)]
    kinds = [found for found in candidates if isinstance(found, type) and issubclass(found, BaseModel)]
    return next((found for each in kinds if (found := field_of(each, rest))), None)

"""Hosts without internet: nothing waits for a network that is not there, and everything but fetching works."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.fake_hub import fake_hub
from helpers.live import SCRIPTED, SCRIPTED_MODEL
from helpers.namespaces import Host, host
from helpers.roles import running_role
from helpers.waiting import until

pytestmark = [pytest.mark.model, pytest.mark.slow]

ABSENT = "org/absent-GGUF"
SETTINGS = {name: value for name, value in SCRIPTED_MODEL.items() if name != "model_id"}
PROFILES = (
    f'[[models]]\nid = "{ABSENT}"\nquant = "Q4_K_M"\n\n[[models]]\nid = "{SCRIPTED}"\nthreads = 1\ncontext = 8192\n'
)


def configuration(folder: Path, models_dir: Path, address: str) -> Path:
    """A gateway and a neuron in one process, and a catalogue with a model that is not here."""
    (folder / "models.toml").write_text(PROFILES)
    file = folder / "cortex.toml"
    file.write_text(
        f'models_config = "models.toml"\n[gateway]\nlisten = "{address}:8000"\nmetrics_listen = "127.0.0.1:0"\n'
        f'[neuron]\nport = 0\nmodels_dir = "{models_dir}"\nstate_dir = "{folder / "state"}"\n'
    )
    return file


def ask(http: httpx.Client, model: str) -> Any:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0}
    answer = http.post("/v1/chat/completions", json=body)
    return answer.status_code, answer.json()


@pytest.fixture(name="there")
def _there() -> Iterator[Host]:
    """A host with a cable to this one, and no way to anywhere else: no route, no name server that answers."""
    with host() as made:
        yield made


@pytest.mark.parametrize("environ", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["no network", "HF_HUB_OFFLINE"])
def test_a_host_without_internet_serves_what_it_has(tmp_path, models_dir, there, environ):
    """Both roles start and answer; a model that is not here is an error with its reason, and no wait; so is `cortex pull`."""
    file = configuration(tmp_path, models_dir, there.address)
    process = there.start("--role", "all", "--config", str(file), HOME=str(tmp_path), CORTEX_LOG="warning", **environ)
    try:
        with httpx.Client(base_url=f"http://{there.address}:8000", trust_env=False, timeout=60) as http:
            asyncio.run(until(lambda: _is_up(http), within_s=60))
            status, said = ask(http, SCRIPTED)
            assert status == 200, said
            assert "scripted" in said["choices"][0]["message"]["content"]
            status, said = ask(http, ABSENT)
            assert status == (404 if environ else 503), said
            assert ("HF_HUB_OFFLINE is set" if environ else "the hub cannot be reached") in said["error"]["message"]
            assert {entry["id"] for entry in http.get("/v1/models").json()["data"]} >= {SCRIPTED, ABSENT}
        pull = [sys.executable, "-m", "cortex", "pull", ABSENT, "--to", str(tmp_path / "to")]
        command = ["ip", "netns", "exec", there.name, *pull]
        done = subprocess.run(
            command,
            env={**os.environ, "HOME": str(tmp_path), **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert "not on this host" in done.stderr
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


def _is_up(http: httpx.Client) -> bool:
    try:
        return bool(http.get("/health").json()["nodes"]["healthy"] == 1)
    except httpx.HTTPError:
        return False


def test_no_hub_is_asked_before_a_model_is_wanted_that_is_not_here(tmp_path, models_dir):
    """With a hub that never answers, start, listing, loading and answering are as they are without one."""
    with fake_hub() as hub:
        hub.hang_listing = True
        file = configuration(tmp_path, models_dir, "127.0.0.1")
        file.write_text(file.read_text().replace(":8000", ":0"))
        environ = {"HF_ENDPOINT": hub.endpoint, "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        with running_role("--role", "all", "--config", file, **environ) as role:
            role.until("gateway listens on")
            url = role.said(r"gateway listens on (https?://)?([\d.:]+)")[2]  # type: ignore[index]
            with httpx.Client(base_url=f"http://{url}", trust_env=False, timeout=60) as http:
                asyncio.run(until(lambda: _is_up(http), within_s=60))
                assert ask(http, SCRIPTED)[0] == 200
                assert http.get("/v1/models").status_code == 200
                assert hub.seen == []
            assert role.end() == 0
        assert hub.seen == []

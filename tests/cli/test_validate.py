"""`cortex validate` against neurons that misbehave: PASS is only said when it is true, and stdout is the answer's own bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.scripted_neuron import ANSWER, MODEL, Script, scripted_neuron


def completion(text: str | None, finish: str = "stop") -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": finish}]}).encode()


@pytest.fixture
def neuron() -> Iterator[Script]:
    with scripted_neuron() as running:
        yield running


def validate(port: int, *more: str, **secrets: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "cortex", "validate", "127.0.0.1", MODEL, "Q8_0", *more]
    environ = {"NEURON_PORT": str(port), **secrets}
    return subprocess.run(command, capture_output=True, timeout=60, check=False, env=environ)


def test_a_good_answer_passes_byte_for_byte(neuron: Script) -> None:
    """stdout holds the answer as it came, spaces and all; the rest is said on stderr."""
    script, port = neuron, neuron.port
    done = validate(port)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ANSWER
    lines = done.stderr.decode().splitlines()
    assert lines[-1] == "PASS"
    assert all(line.startswith("[127.0.0.1] ") for line in lines[:-1])
    assert [path for path, _ in script.seen] == ["/health", "/models", "/v1/chat/completions"]
    assert script.seen[-1][1] == {
        "model": MODEL,
        "messages": [
            {
                "role": "user",
                "content": "What is the capital of France? Respond with the city name only, no punctuation.",
            }
        ],
        "temperature": 0.1,
        "max_tokens": 256,
    }


@pytest.mark.parametrize(("secrets", "shown"), [({}, None), ({"NEURON_TOKEN": "of-it"}, "Bearer of-it")])
def test_a_neuron_is_shown_its_token_and_no_gateways_key(
    neuron: Script, secrets: dict[str, str], shown: str | None
) -> None:
    """The key of a gateway is nothing for whichever host is to be tried."""
    done = validate(neuron.port, **secrets, CORTEX_API_KEY="sk-of-the-gateway")
    assert done.returncode == 0, done.stderr
    assert set(neuron.shown) == {shown}


@pytest.mark.parametrize("listed", [[], [{"id": MODEL, "status": "unloaded"}], [{"id": "other", "status": "loaded"}]])
def test_a_model_that_is_not_loaded_is_loaded_first(neuron: Script, listed: list[Any]) -> None:
    """The load is asked for as the first generation's script did, and its answer is shown."""
    script, port = neuron, neuron.port
    script.models = (200, json.dumps(listed).encode())
    done = validate(port)
    assert done.returncode == 0, done.stderr
    load = {"model_id": MODEL, "harness": "candle", "quant": "Q8_0", "devices": [0]}
    assert script.seen[2] == ("/models/load", load)
    assert b'HTTP 200 {"status":"loaded"}' in done.stderr


def test_a_port_can_be_part_of_the_host(neuron: Script) -> None:
    """HOST:PORT wins over NEURON_PORT."""
    command = [sys.executable, "-m", "cortex", "validate", f"127.0.0.1:{neuron.port}", MODEL]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env={"NEURON_PORT": "1"})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"health": (500, b"oops")}, "/health answered HTTP 500"),
        ({"health": (200, b"<html>")}, "not JSON"),
        ({"models": (200, b'{"data": []}')}, "not answer with a list"),
        ({"models": (200, b"[]"), "load": (400, b'{"error":"no GGUF"}')}, "/models/load answered HTTP 400"),
        ({"chat": (500, b'{"error":"broken"}')}, "HTTP 500"),
        ({"chat": (200, b'{"choices": [{"mess')}, "not JSON"),
        ({"chat": (200, b'{"choices": []}')}, "no chat completion"),
        ({"chat": (200, b"[1]")}, "no chat completion"),
        ({"chat": (200, completion("London"))}, "does not contain 'Paris'"),
        ({"chat": (200, completion(None, "length"))}, "ended at its 256 tokens"),
    ],
)
def test_a_bad_answer_fails_with_its_reason(neuron: Script, wrong: dict[str, tuple[int, bytes]], reason: str) -> None:
    """Exit code 1 and FAIL with the reason; what the model answered is on stdout all the same."""
    script, port = neuron, neuron.port
    for name, answer in wrong.items():
        setattr(script, name, answer)
    done = validate(port)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1].startswith("FAIL: ")
    assert reason in done.stderr.decode()
    assert done.stdout == (wrong["chat"][1] if "chat" in wrong else b"")


@pytest.mark.parametrize("path", ["/health", "/models/load", "/v1/chat/completions"])
def test_a_neuron_that_hangs_fails_in_time(neuron: Script, path: str) -> None:
    """Each step has its own time-out."""
    script, port = neuron, neuron.port
    script.models, script.hang = (200, b"[]"), path
    seconds = {"/health": "0.2 30 30", "/models/load": "30 0.2 30", "/v1/chat/completions": "30 30 0.2"}[path]
    done = validate(port, "--timeouts", *seconds.split())
    assert done.returncode == 1
    assert f"{path} within 0.2 s" in done.stderr.decode()


def test_nobody_there_fails(unused_port: int) -> None:
    """A neuron that does not run is a FAIL like any other."""
    done = validate(unused_port)
    assert done.returncode == 1
    assert b"FAIL: cannot reach http://127.0.0.1" in done.stderr

"""build/up, the first command of a newcomer: it answers, its printed requests work, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest
from helpers.demo import MODEL, ROOT, STOP_S, Demo, running_demo

pytestmark = [pytest.mark.model, pytest.mark.slow]
CORTEX = str(ROOT / ".venv/bin/cortex")


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """One demo for the tests that only ask it something."""
    with running_demo() as demo:
        yield demo


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def validate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Up to three tries: at the probe's temperature so small a model misses one time in twelve (measured)."""
    for _ in range(3):
        done = run(CORTEX, "validate", *arguments)
        if done.returncode == 0:
            break
    return done


def test_the_printed_requests_work(demo: Demo) -> None:
    """Three lines to paste: the models, an answer with Paris in it, and the same as a stream."""
    models, whole, stream = [run("curl", "-m", "60", *shlex.split(line)[1:]) for line in demo.curls]
    assert MODEL in [model["id"] for model in json.loads(models.stdout)["data"]]
    assert "Paris" in json.loads(whole.stdout)["choices"][0]["message"]["content"]
    events = [line.removeprefix("data: ") for line in stream.stdout.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    deltas = [
        json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events[:-1] if "choices" in event
    ]
    assert "Paris" in "".join(deltas)
    assert len([text for text in deltas if text]) > 3


def test_validate_passes_and_prints_json_alone(demo: Demo) -> None:
    """`cortex validate HOST MODEL > out.json` leaves valid JSON in the file."""
    done = validate(demo.neuron, MODEL)
    assert done.returncode == 0, done.stderr
    assert "Paris" in json.loads(done.stdout)["choices"][0]["message"]["content"]
    assert done.stderr.splitlines()[-1] == "PASS"


def test_a_request_of_the_first_generation_is_served_on_a_host_without_gpu(demo: Demo) -> None:
    """harness candle, a quant and device 0: what its script sends when the model is not loaded yet."""
    assert run(CORTEX, "unload", MODEL, "-e", demo.url).returncode == 0
    first = run(CORTEX, "validate", demo.neuron, MODEL, "Q4_K_M")
    assert 'HTTP 200 {"status":"loaded"' in first.stderr
    assert validate(demo.neuron, MODEL, "Q4_K_M").returncode == 0


def test_status_shows_the_fleet(demo: Demo) -> None:
    """The fleet, where its models are and their memory: as text, and as JSON for scripts."""
    text = run(CORTEX, "status", "-e", demo.url).stdout
    assert "local" in text
    assert MODEL in text
    assert "loaded" in text
    facts = json.loads(run(CORTEX, "status", "--json", "-e", demo.url).stdout)
    assert [neuron["name"] for neuron in facts["nodes"]] == ["local"]


def test_models_can_be_unloaded_and_loaded(demo: Demo) -> None:
    """`unload` and `load` say what happened and where; what is not there is exit code 1."""
    assert run(CORTEX, "load", MODEL, "-e", demo.url).returncode == 0
    done = run(CORTEX, "unload", MODEL, "-e", demo.url)
    assert (done.returncode, "local" in done.stdout) == (0, True)
    assert "unloaded" in run(CORTEX, "models", "-e", demo.url).stdout
    done = run(CORTEX, "load", MODEL, "--node", "local", "-e", demo.url)
    assert (done.returncode, "local" in done.stdout) == (0, True), done.stderr
    missing = run(CORTEX, "load", "absent", "-e", demo.url)
    assert (missing.returncode, "absent" in missing.stderr) == (1, True)


def test_a_taken_port_says_what_to_change(demo: Demo) -> None:
    """The sentence names the address and the key; exit code 2; the neuron of the same process is gone as well."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        neuron_port = free.getsockname()[1]
    environ = {**os.environ, "NEURON_PORT": str(neuron_port)}
    command = [CORTEX, "--role", "all", "--port", str(demo.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert f"cannot listen on 127.0.0.1:{demo.port}: address already in use" in last
    assert "[gateway] listen" in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_nothing_is_left_behind(how: str) -> None:
    """Also while an answer is open: every process and every temporary file is gone within the promised seconds."""
    with running_demo() as demo:
        asked = json.dumps(
            {"model": MODEL, "stream": True, "max_tokens": 2000, "messages": [{"role": "user", "content": "Count."}]}
        )
        with subprocess.Popen(
            ["curl", "-sN", "-m", "60", f"{demo.url}/v1/chat/completions", "-d", asked], stdout=subprocess.PIPE
        ) as curl:
            assert curl.stdout
            assert curl.stdout.readline()
            assert len(demo.processes()) >= 3, "this script, cortex, its engine"
            if how == "SIGTERM":
                demo.process.send_signal(signal.SIGTERM)
                demo.process.wait(timeout=STOP_S)
            else:
                demo.interrupt()
        assert demo.processes() == []
        assert list(demo.home.iterdir()) == []

"""A role as a process: what it says at the start, and how signals end it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.scripted_neuron import MODEL, scripted_neuron

LOOPBACK = {"CORTEX_GATEWAY__METRICS_LISTEN": "127.0.0.1:0", "CORTEX_LOG": "info"}


class Role:
    """A running role and its log."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[str] = []

    def until(self, pattern: str) -> re.Match[str]:
        """Read the log up to a line; the pytest time-out bounds the wait."""
        assert self.process.stderr
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"no line with {pattern!r} in {self.log}")


@contextlib.contextmanager
def running(*arguments: str, **environ: str) -> Iterator[Role]:
    command = [sys.executable, "-m", "cortex", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**LOOPBACK, **environ}) as process:
        try:
            yield Role(process)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_gateway_in_order(number: signal.Signals) -> None:
    """It says that it runs on defaults, listens on loopback, and ends with exit code 0."""
    with running("--role", "gateway", "--port", "0") as role:
        role.until("no configuration file given: defaults, on loopback only")
        role.until(r"listens on 127\.0\.0\.1:\d+")
        role.process.send_signal(number)
        role.until(f"stopping: {number.name}")
        assert role.process.wait(timeout=20) == 0
        assert "Traceback" not in "".join(role.log)


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """The first waits for an answer that never comes, up to its 30 s; the second does not."""
    with scripted_neuron() as neuron:
        neuron.hang = "/v1/chat/completions"
        file = tmp_path / "cortex.toml"
        file.write_text(f"[[neurons]]\nname = 'a'\nendpoint = 'http://127.0.0.1:{neuron.port}'\n")
        with running("serve", "-c", str(file), "-p", "0") as role:
            url = "http://" + role.until(r"listens on (127\.0\.0\.1:\d+)")[1]
            asking = threading.Thread(target=ask, args=(url,))
            asking.start()
            while neuron.hang not in [path for path, _ in neuron.seen]:
                asking.join(0.01)
                assert asking.is_alive(), neuron.seen
            role.process.send_signal(signal.SIGTERM)
            role.until("stopping: SIGTERM; a second signal ends at once")
            role.process.send_signal(signal.SIGTERM)
            assert role.process.wait(timeout=20) == 128 + signal.SIGTERM
            asking.join()


def ask(url: str) -> None:
    body = json.dumps({"model": MODEL, "messages": []}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError), opener.open(f"{url}/v1/chat/completions", body, timeout=60):
        pass


def test_a_signal_during_the_start_ends_it(tmp_path: Path) -> None:
    """The neuron of --role all is up, the gateway is not yet: both end, with exit code 0 and without a traceback."""
    with running("--role", "all", "--port", "0", "--models-dir", str(tmp_path), NEURON_PORT="0") as role:
        role.until("neuron listens on")
        role.process.send_signal(signal.SIGTERM)
        role.until("stopped")
        assert role.process.wait(timeout=20) == 0
        assert "Traceback" not in "".join(role.log)


@pytest.mark.parametrize(
    ("role", "key"),
    [("gateway", "[gateway] listen"), ("neuron", "host and port of the neuron")],
)
def test_a_taken_address_is_one_sentence(role: str, key: str) -> None:
    """Exit code 2, with the address and what to change."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        with running("--role", role, "--port", str(port)) as process:
            process.until(
                rf"^cortex: the {role} cannot listen on 127.0.0.1:{port}: address already in use; stop what .*change {re.escape(key)}"
            )
            assert process.process.wait(timeout=20) == 2
            assert "Traceback" not in "".join(process.log)


def test_an_unknown_log_level_is_named() -> None:
    """CORTEX_LOG has four words."""
    with running("serve", CORTEX_LOG="loud") as role:
        role.until("unknown log level 'loud': use debug, info, warning or error")
        assert role.process.wait(timeout=20) == 2

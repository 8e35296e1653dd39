"""build/selftest: one answer through gateway, neuron and engine, by processes of the very command that is given.

Every check is a sentence; the first that does not hold ends the test with exit code 1 and the logs.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from binary.environment import ROOT

WAIT_S = 90.0  # for any fact, on a machine that does other things as well
MODEL = "scripted"
LEGACY = "gpt2"
SAID = "Hello from the scripted model."


class NotSo(Exception):  # noqa: N818  reads as what happened
    """A check does not hold."""


def main() -> int:
    command = [str(Path(word).resolve()) if Path(word).exists() else word for word in sys.argv[1:]]
    with tempfile.TemporaryDirectory(prefix="cortex-selftest-") as folder:
        home = Path(folder)
        try:
            run(command, home)
        except NotSo as failure:
            for log in sorted(home.glob("*.log")):
                say(f"---- {log.name}\n{log.read_text()}")
            say(f"FAIL  {failure}")
            return 1
    say("the binary does what it should")
    return 0


def run(command: Sequence[str], home: Path) -> None:
    facts = commands(command)
    write_models(home / "models")
    with neuron_and_gateway(command, home) as (neuron, gateway, url):
        check("a streamed answer comes through gateway, neuron and engine", streamed(url) == SAID)
        engine = engine_of(neuron.pid)
        if facts["kind"] == "binary":
            check(
                "gateway, neuron and engine run one unpacked image", len(images(neuron.pid, gateway.pid, engine)) == 1
            )
            check("it was unpacked once", len(list((home / "cache").iterdir())) == 1)
        check("a model of before GGUF answers", legacy_answer(url))
        check("what ends is told by exit code 0", ended(gateway) == 0)
        os.kill(neuron.pid, signal.SIGKILL)
        neuron.wait()
        until(lambda: not Path(f"/proc/{engine}").exists(), "an engine dies with its neuron")


def commands(command: Sequence[str]) -> dict[str, Any]:
    """Version, help and samples; the facts of `version --json`."""
    facts: dict[str, Any] = json.loads(output(command, "version", "--json"))
    say(f"      {facts['kind']}, flavour {facts['flavour']}, commit {facts['git_sha']}, llama.cpp {facts['llama_cpp']}")
    check("help names the roles", "gateway|neuron|all" in output(command, "--help"))
    for sample in ("cortex.toml", "neuron.toml", "models.toml"):
        check(
            f"rpm/{sample} is without mistakes",
            "without mistakes" in output(command, "config", "check", str(ROOT / "rpm" / sample)),
        )
    wrong = subprocess.run([*command, "statsu"], capture_output=True, text=True, check=False)
    check("a typo is a sentence, not a traceback", wrong.returncode == 2 and "Traceback" not in wrong.stderr)
    return facts


def output(command: Sequence[str], *arguments: str) -> str:
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=WAIT_S, check=False)
    if done.returncode != 0:
        raise NotSo(f"`{' '.join(arguments)}` ended with exit code {done.returncode}: {done.stderr}")
    return done.stdout


# ---- the two roles


@contextlib.contextmanager
def neuron_and_gateway(
    command: Sequence[str], home: Path
) -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes], str]]:
    """Both as their own processes, as on two hosts; they have no home and no network but this host's."""
    neuron_port, port, metrics_port = free_ports(3)
    (home / "neuron.toml").write_text(
        f"port = {neuron_port}\nmodels_dir = '{home}/models'\nruntime_dir = '{home}/run'\nstate_dir = '{home}/state'\n"
        f"[hub]\nenabled = false\n[[default_models]]\nmodel_id = '{MODEL}'\nthreads = 1\ncontext = 2048\ngpu_layers = 0\n"
    )
    (home / "cortex.toml").write_text(
        f"[gateway]\nlisten = '127.0.0.1:{port}'\nmetrics_listen = '127.0.0.1:{metrics_port}'\npoll_interval_secs = 1\n"
        f"[[neurons]]\nname = 'here'\nendpoint = 'http://127.0.0.1:{neuron_port}'\n"
    )
    with role(command, "neuron", home) as neuron, role(command, "gateway", home) as gateway:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answered(f"http://127.0.0.1:{neuron_port}", "/health"), "the neuron answers", neuron)
        until(lambda: answered(url, "/health"), "the gateway answers", gateway)
        until(
            lambda: MODEL.encode() in (answered(url, "/v1/models") or b""),
            "the gateway knows the neuron's model",
            gateway,
        )
        yield neuron, gateway, url


@contextlib.contextmanager
def role(command: Sequence[str], name: str, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    file = home / ("neuron.toml" if name == "neuron" else "cortex.toml")
    environment = {"PATH": "/usr/bin:/bin", "CACHE_DIRECTORY": str(home / "cache"), "CORTEX_LOG": "debug"}
    with (home / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([*command, "--role", name, "--config", str(file)], env=environment, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def streamed(url: str) -> str:
    """The text of one streamed answer. Raises NotSo when it does not end as a stream should."""
    body = {"model": MODEL, "stream": True, "max_tokens": 32, "messages": [{"role": "user", "content": "Hello"}]}
    with asked(f"{url}/v1/chat/completions", body) as answer:
        events = [line.removeprefix(b"data: ").strip() for line in answer if line.startswith(b"data: ")]
    if not events or events.pop() != b"[DONE]":
        raise NotSo("the stream does not end with [DONE]")
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def asked(url: str, body: dict[str, Any]) -> http.client.HTTPResponse:
    ask = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(ask, timeout=WAIT_S)
    except urllib.error.HTTPError as error:
        raise NotSo(f"{url}: HTTP {error.code} {error.read().decode()}") from error
    return answer


def legacy_answer(url: str) -> bool:
    """Whether the gateway has it loaded, and it says something."""
    with asked(f"{url}/v1/completions", {"model": LEGACY, "max_tokens": 4, "prompt": "Hello"}) as answer:
        told: dict[str, Any] = json.load(answer)
    return bool(told["usage"]["completion_tokens"] > 0)


def engine_of(pid: int) -> int:
    """The neuron's only child."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if len(children) != 1:
        raise NotSo(f"the neuron has {len(children)} children, not one engine")
    return int(children[0])


def images(*pids: int) -> set[str]:
    return {str(Path(f"/proc/{pid}/exe").readlink()) for pid in pids}


def ended(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    return process.wait(timeout=WAIT_S)


# ---- small things


def write_models(folder: Path) -> None:
    """A scripted model, and one for the engine of legacy files."""
    from helpers.legacy_ggml import write_legacy_models
    from helpers.scripted_gguf import write_scripted_model

    folder.mkdir()
    write_scripted_model(folder / f"{MODEL}.gguf")
    with tempfile.TemporaryDirectory() as every:
        write_legacy_models(Path(every))
        shutil.copy(Path(every) / f"{LEGACY}.bin", folder)


def answered(url: str, path: str) -> bytes | None:
    try:
        with urllib.request.urlopen(f"{url}{path}", timeout=5) as answer:
            body: bytes = answer.read()
            return body
    except OSError:
        return None


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in socks]


def until(fact: Callable[[], object], sentence: str, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + WAIT_S
    while not fact():
        if process is not None and process.poll() is not None:
            raise NotSo(f"{sentence}: it ended with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise NotSo(f"{sentence}: not within {WAIT_S:g} s")
        time.sleep(0.02)
    check(sentence, holds=True)


def check(sentence: str, holds: object) -> None:
    if not holds:
        raise NotSo(sentence)
    say(f"ok    {sentence}")


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())

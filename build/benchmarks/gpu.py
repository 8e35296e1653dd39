"""`build/test gpu`: what can only be shown where there is an NVIDIA GPU, in one command.

Discovery, memory before and after a load and after its end, tokens/s as ratios to the bare llama-server, a killed
engine, the refusal of a build for something else. The figures are printed as they belong into README's hardware section.
Exit status: 0 all of it held, 1 something did not, 2 something that it needs is missing, 3 there is no GPU here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks import processes
from benchmarks.cycles import demo_model
from benchmarks.errors import CannotRun
from benchmarks.ports import free_port
from cortex.neuron.hardware.host import usable_cores
from cortex.neuron.hardware.nvidia import Nvidia, NvidiaReading

NO_GPU = 3
BACK_MB = 64  # of what was free before a load must be free after its end, but so much
STREAMS = (1, 8)
TOKENS = 256
WITHIN_S = 120.0
SERVER = processes.ROOT / "dist" / "engine" / "llama-server"
MODEL: dict[str, Any] = {"model_id": "demo", "context": 16_384, "parallel": 8, "chat_template": "chatml"}


@dataclass
class Verdict:
    """What held and what did not, told as it is found out."""

    failed: list[str] = field(default_factory=list)

    def __call__(self, claim: str, held: object) -> None:
        print(f"{'ok  ' if held else 'NOT '} {claim}", flush=True)
        if not held:
            self.failed.append(claim)


class Bench:
    """A neuron on this host; `gpu_layers` 0 rehearses all of it on the processor."""

    def __init__(self, gpu_layers: int | None) -> None:
        self.nvidia = Nvidia()
        self.settings = MODEL | ({} if gpu_layers is None else {"gpu_layers": gpu_layers, "context": 1024})
        self.tokens = TOKENS if gpu_layers is None else 8

    @contextlib.contextmanager
    def neuron(self, server: Path | None) -> Iterator[httpx.Client]:
        with tempfile.TemporaryDirectory(prefix="cortex-gpu-") as name:
            folder, port = Path(name), free_port()
            (folder / "models").mkdir()
            (folder / "models" / "demo.gguf").symlink_to(demo_model())
            config = folder / "neuron.toml"
            section = f'[harness.llamacpp]\nserver_binary = "{server}"\n' if server else ""
            config.write_text(
                f'port = {port}\nmodels_dir = "{folder}/models"\nruntime_dir = "{folder}/run"\n'
                f'state_dir = "{folder}/state"\nhub = {{ enabled = false }}\n{section}'
            )
            command = [sys.executable, "-m", "cortex", "--role", "neuron", "--config", str(config)]
            with (
                processes.running(command, port=port, log=folder / "neuron.log"),
                httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WITHIN_S, trust_env=False) as http,
            ):
                yield http

    def used_mb(self) -> int:
        return sum(device.vram_used_mb or 0 for device in self.nvidia.read().health)

    def load(self, http: httpx.Client, **more: Any) -> httpx.Response:
        return http.post("/models/load", json={"harness": "auto", **self.settings, **more})

    def unload(self, http: httpx.Client) -> None:
        http.post("/models/unload", json={"model_id": "demo"}).raise_for_status()

    def memory(self, http: httpx.Client, verdict: Verdict) -> None:
        before = self.used_mb()
        loaded = self.load(http)
        verdict(f"the model is loaded ({loaded.text[:200]})", loaded.status_code == 200)
        during, entry = self.used_mb(), http.get("/models").json()[0]
        self.unload(http)
        after = self.used_mb()
        print(f"     GPU memory in use: {before} MiB before, {during} loaded, {after} after its end; ")
        print(
            f"     the neuron says that it holds {entry['vram_used_mb']} and estimated {entry['vram_estimate_mb']} MiB"
        )
        verdict(f"its memory is back to within {BACK_MB} MiB", after - before <= BACK_MB)

    def killed(self, http: httpx.Client, verdict: Verdict) -> None:
        before = self.used_mb()
        self.load(http)
        engine = _engine()
        os.kill(engine, signal.SIGKILL)
        _until(
            lambda: (
                (models := http.get("/models").json())
                and models[0].get("last_death")
                and models[0]["status"] == "loaded"
            )
        )
        verdict("a killed engine is replaced", _engine() != engine)
        verdict("the driver knows nothing of the killed one", engine not in self.nvidia.read().mb_by_process)
        self.unload(http)
        verdict(f"and its memory is back to within {BACK_MB} MiB", self.used_mb() - before <= BACK_MB)

    def speed(self, http: httpx.Client, server: Path) -> dict[int, tuple[float, float]]:
        """Tokens a second by number of streams: through the neuron, and of the same server alone."""
        self.load(http)
        ours = {streams: tokens_per_s(str(http.base_url), streams, self.tokens) for streams in STREAMS}
        self.unload(http)
        layers = str(self.settings.get("gpu_layers", 999))
        port = free_port()
        command = [str(server), "--model", str(demo_model()), "--port", str(port), "--alias", "demo", "--jinja"]
        command += [
            "--ctx-size",
            str(self.settings["context"]),
            "--parallel",
            "8",
            "--kv-unified",
            "--n-gpu-layers",
            layers,
        ]
        command += [
            "--threads",
            str(max(1, usable_cores() - 1)),
            "--chat-template",
            "chatml",
            "--batch-size",
            "512",
            "--ubatch-size",
            "512",
        ]
        with tempfile.TemporaryDirectory() as name, processes.running(command, port=port, log=Path(name) / "log"):
            url = f"http://127.0.0.1:{port}"
            _until(lambda: httpx.get(f"{url}/health").status_code == 200)
            return {streams: (ours[streams], tokens_per_s(url, streams, self.tokens)) for streams in STREAMS}


def tokens_per_s(url: str, streams: int, tokens: int) -> float:
    """Of all streams together, after one that warms up; each writes exactly so many tokens."""
    _stream(url, 8)
    begun = time.monotonic()
    threads = [threading.Thread(target=_stream, args=(url, tokens)) for _ in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return streams * tokens / (time.monotonic() - begun)


def _stream(url: str, tokens: int) -> None:
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": "Write a long story about a lighthouse."}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=WITHIN_S, trust_env=False) as answer:
        if answer.status_code != 200:
            raise CannotRun(f"{url} answered {answer.status_code}: {answer.read()[:300]!r}")
        for _ in answer.iter_bytes():
            pass


def _engine() -> int:
    """The process id of the only engine below us."""
    (neuron,) = processes.children(os.getpid())
    (engine,) = processes.children(neuron)
    return engine


def _until(fact: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if fact():
                return
        time.sleep(0.05)
    raise CannotRun("something did not happen within two minutes")


def _server(reading: NvidiaReading) -> Path:
    """A llama-server for these GPUs, built where there is none: that takes a while."""
    if not SERVER.exists():
        capabilities = {(device.compute_capability or "").replace(".", "") for device in reading.devices} - {""}
        print(f"building a llama-server for {', '.join(sorted(capabilities))}", flush=True)
        subprocess.run([processes.ROOT / "build" / "engine", "--cuda", ",".join(sorted(capabilities))], check=True)
    return SERVER


def show(bench: Bench, server: Path, reading: NvidiaReading, *, rehearsal: bool) -> int:
    verdict = Verdict()
    with bench.neuron(server) as http:
        discovery = http.get("/discovery").json()
        details = next(each for each in discovery["harness_details"] if each["name"] == "llamacpp")
        print(json.dumps({"devices": discovery["devices"], "llamacpp": details}, indent=2))
        verdict("discovery lists what NVML lists", len(discovery["devices"]) == len(reading.devices))
        verdict("nothing speaks against these GPUs", rehearsal or "cuda_unavailable_reason" not in discovery)
        bench.memory(http, verdict)
        bench.killed(http, verdict)
        speeds = bench.speed(http, server)
    with bench.neuron(None) as http:
        refused = bench.load(http)
        expected = 200 if rehearsal else 422
        verdict(
            f"the built-in engine, a build without CUDA, refuses: {refused.text[:160]}", refused.status_code == expected
        )
    cards = ", ".join(device.name for device in reading.devices) or "the processor"
    print(
        f"\n| {cards}, driver {reading.driver_version}, CUDA {reading.cuda_version} | neuron | llama-server | ratio |\n|---|---|---|---|"
    )
    for streams, (ours, bare) in speeds.items():
        print(f"| SmolLM2-135M Q4_1, {streams} streams, tokens/s | {ours:.0f} | {bare:.0f} | {ours / bare:.2f} |")
    print("\nnot held: " + "; ".join(verdict.failed) if verdict.failed else "\nall of it held")
    return 1 if verdict.failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="build/test gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="the same on the processor, where there is no GPU; it proves nothing"
    )
    rehearsal = parser.parse_args().rehearse
    bench = Bench(0 if rehearsal else None)
    reading = bench.nvidia.read()
    if not rehearsal and (reading.unavailable_reason or not reading.devices):
        why = reading.unavailable_reason or "NVML finds none"
        print(
            f"build/test gpu: there is no NVIDIA GPU that could be used here: {why}; nothing was run", file=sys.stderr
        )
        return NO_GPU
    try:
        return show(bench, _server(reading), reading, rehearsal=rehearsal)
    except (CannotRun, subprocess.CalledProcessError) as error:
        print(f"build/test gpu: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

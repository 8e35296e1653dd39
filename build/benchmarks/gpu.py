"""`build/test gpu`: what can only be shown where there is an NVIDIA GPU, in one command.

For llama.cpp by a llama-server (built where there is none: that takes a while), for the built-in engine with its CUDA backend
(--backends), and for legacy models by ctransformers' CUDA library: discovery, loads, memory before and after them, a
killed engine, tokens/s at 1 and 8 streams beside the bare llama-server, known answers, refusals of what is for other GPUs.
The figures are printed as they belong into README's hardware section. A part whose means are missing did not hold.
Exit status: 0 all of it held, 1 something did not, 2 something that it needs is missing, 3 there is no GPU here.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
from helpers.legacy_falcon import falcon_bytes
from helpers.legacy_ggml import ANSWER, PROMPT, write_legacy_models
from helpers.smollm2_to_ggjt import write_ggjt_model

from benchmarks import gpu_neuron, processes
from benchmarks.cycles import demo_model
from benchmarks.errors import CannotRun
from benchmarks.gpu_claims import Report, killed, loads, writes
from benchmarks.gpu_neuron import GpuNeuron
from benchmarks.gpu_speed import STREAMS, speeds
from benchmarks.ports import free_port
from cortex.neuron.hardware.host import usable_cores
from cortex.neuron.hardware.nvidia import Nvidia, NvidiaReading
from cortex.neuron.harness import ctransformers_cuda, server_binary

NO_GPU = 3
TOKENS = 256
SERVER = processes.ROOT / "dist" / "engine" / "llama-server"
DEMO: Mapping[str, Any] = {"model_id": "demo", "context": 16_384, "parallel": 8, "chat_template": "chatml"}
OLD: dict[str, Any] = {"model_id": "ggjt", "context": 2048, "chat_template": "chatml", "max_wait_secs": 600}
FAMILIES = ("falcon", "mpt", "starcoder")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is there to show it with. `settings` go with every load: to one card, in a rehearsal to none."""

    reading: NvidiaReading
    server: Path | None
    backends: Path | None
    libraries: Path | None
    settings: dict[str, Any]
    tokens: int

    @property
    def is_rehearsal(self) -> bool:
        return not self.reading.devices


# ---- the parts


def discovery(plan: Plan, report: Report) -> None:
    with gpu_neuron.running({}, "", {}) as neuron:
        found = neuron.http.get("/discovery").json()
        report.figures["discovery"] = found
        report.say(json.dumps({key: found.get(key) for key in ("devices", "driver_version", "cuda_version")}, indent=2))
        report("discovery lists what NVML lists", len(found["devices"]) == len(plan.reading.devices))


def llama_cpp(plan: Plan, name: str, section: str, report: Report) -> None:
    with gpu_neuron.running({"demo.gguf": demo_model()}, section, plan.settings) as neuron:
        usable = neuron.http.get("/discovery").json().get("cuda_unavailable_reason") is None
        report(f"{name}: nothing speaks against these GPUs", usable or plan.is_rehearsal)
        loads(neuron, DEMO, name, report)
        killed(neuron, DEMO, name, report)
        writes(neuron, DEMO, name, plan.tokens, report)


def bare(plan: Plan, server: Path, report: Report) -> None:
    """The server itself, on one card as well."""
    port, layers = free_port(), str(plan.settings.get("gpu_layers", 999))
    card = (plan.reading.devices[0].uuid or "0") if plan.reading.devices else ""
    command = ["env", "CUDA_DEVICE_ORDER=PCI_BUS_ID", f"CUDA_VISIBLE_DEVICES={card}", str(server)]
    command += ["--model", str(demo_model()), "--port", str(port), "--alias", "demo", "--jinja"]
    command += ["--ctx-size", str(DEMO["context"]), "--parallel", "8", "--kv-unified", "--n-gpu-layers", layers]
    command += ["--threads", str(max(1, usable_cores() - 1)), "--chat-template", "chatml"]
    command += ["--batch-size", "512", "--ubatch-size", "512"]
    with (
        tempfile.TemporaryDirectory() as folder,
        processes.running(command, port=port, log=Path(folder) / "log", within_s=gpu_neuron.START_S),
    ):
        url = f"http://127.0.0.1:{port}"
        gpu_neuron.until(lambda: httpx.get(f"{url}/health").status_code == 200)
        report.figures["llama-server alone"] = {"tokens_per_s": speeds(url, "demo", plan.tokens)}


def legacy(plan: Plan, report: Report) -> None:
    """Families of before GGUF: their known answers, and SmolLM2 rewritten as one of them."""
    name = "ctransformers"
    with tempfile.TemporaryDirectory(prefix="cortex-gpu-") as folder:
        files = _legacy_files(Path(folder))
        section = f'[harness.ctransformers]\ncuda_libraries = "{plan.libraries}"\n' if plan.libraries else ""
        with gpu_neuron.running(files, section, plan.settings, Path(folder) / "state") as neuron:
            reason = neuron.detail(name).get("cuda_unavailable_reason")
            report(f"{name}: nothing speaks against these GPUs ({reason})", reason is None or plan.is_rehearsal)
            wanted: dict[str, Any] = {} if plan.is_rehearsal else {"gpu_layers": -1}
            for family in FAMILIES:
                report(
                    f"{name}: {family} gives its known answer",
                    _answer(neuron, {"model_id": family, **wanted}) == ANSWER,
                )
            loads(neuron, OLD | wanted, name, report)
            report(f"{name}: SmolLM2 as ggjt knows the capital of France", "Paris" in _capital(neuron, OLD | wanted))
            killed(neuron, OLD | wanted, name, report)
            writes(neuron, OLD | wanted, name, plan.tokens, report)


def _legacy_files(folder: Path) -> dict[str, Path]:
    write_legacy_models(folder)
    (folder / "falcon.bin").write_bytes(falcon_bytes())
    write_ggjt_model(demo_model(), folder / "ggjt.bin")
    return {file.name: file for file in folder.glob("*.bin")}


def _answer(neuron: GpuNeuron, model: Mapping[str, Any]) -> str:
    neuron.loaded(model)
    body = {"model": model["model_id"], "prompt": PROMPT, "max_tokens": 16, "temperature": 0}
    answer = neuron.http.post("/v1/completions", json=body).json()
    neuron.unload(model)
    return str(answer["choices"][0]["text"] if "choices" in answer else answer)


def _capital(neuron: GpuNeuron, model: Mapping[str, Any]) -> str:
    neuron.loaded(model)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    body = {"model": model["model_id"], "messages": messages, "max_tokens": 32, "temperature": 0}
    answer = neuron.http.post("/v1/chat/completions", json=body).json()
    neuron.unload(model)
    return str(answer)


def strangers(plan: Plan, report: Report) -> None:
    """A build for something else says so, and the processor does not stand in for the GPU."""
    with tempfile.TemporaryDirectory() as folder:
        section = f'[harness.llamacpp]\nbackends = "{_for_other_gpus(Path(folder))}"\n'
        with gpu_neuron.running({"demo.gguf": demo_model()}, section, plan.settings) as neuron:
            refused = neuron.load(DEMO)
            held = plan.is_rehearsal or (refused.status_code == 422 and "cuda_unsupported" in refused.text)
            report(f"a backend that is compiled for other GPUs is refused: {refused.text[:200]}", held)


def _for_other_gpus(folder: Path) -> Path:
    """A folder of backends as one for the first GPUs of compute capability 3 would look to a neuron."""
    cuda = {"file": "libggml-cuda.so", "version": "11.0", "architectures": ["30-real"], "libraries": []}
    manifest = {"xllamacpp": metadata.version("xllamacpp"), "cpu": [], "cuda": cuda}
    (folder / "backends.json").write_text(json.dumps(manifest))
    (folder / "libggml-cuda.so").touch()
    return folder


def show(plan: Plan, report: Report) -> None:
    with report.part("discovery"):
        discovery(plan, report)
    if plan.server:
        with report.part("llama.cpp by a llama-server"):
            llama_cpp(plan, "llama-server", f'[harness.llamacpp]\nserver_binary = "{plan.server}"\n', report)
            bare(plan, plan.server, report)
    if plan.backends:
        with report.part("llama.cpp by the built-in engine with its CUDA backend"):
            llama_cpp(plan, "built-in", f'[harness.llamacpp]\nbackends = "{plan.backends}"\n', report)
    with report.part("ctransformers"):
        legacy(plan, report)
    with report.part("strangers"):
        strangers(plan, report)


def table(report: Report, reading: NvidiaReading) -> str:
    """For README's hardware section."""
    cards = ", ".join(device.name for device in reading.devices) or "the processor"
    rates = {name: each["tokens_per_s"] for name, each in report.figures.items() if "tokens_per_s" in each}
    alone = rates.get("llama-server alone", {})
    head = f"| {cards}, driver {reading.driver_version}, CUDA {reading.cuda_version} |"
    lines = [
        head + "".join(f" {count} streams, tokens/s | of the bare server |" for count in STREAMS),
        "|---" * (1 + 2 * len(STREAMS)) + "|",
    ]
    for name, found in rates.items():
        cells = [
            f"{found[count]:.0f} | {found[count] / alone[count]:.2f}" if alone else f"{found[count]:.0f} | "
            for count in STREAMS
        ]
        lines.append(f"| {name}, SmolLM2-135M | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# ---- what is there


def _server(reading: NvidiaReading, report: Report) -> Path | None:
    """A llama-server for these GPUs; one that lists none, as a build for the processor does, is made anew."""
    if SERVER.exists() and (not reading.devices or server_binary.examine(SERVER).gpus):
        return SERVER
    if not reading.devices:
        return None
    capabilities = sorted({(device.compute_capability or "").replace(".", "") for device in reading.devices} - {""})
    report.say(f"building a llama-server for {', '.join(capabilities)}")
    try:
        subprocess.run(
            [processes.ROOT / "build" / "engine", "--cuda", ",".join(capabilities)], check=True, stdout=sys.stderr
        )
    except (OSError, subprocess.CalledProcessError) as error:
        report(f"a llama-server for these GPUs is made: {error}", held=False)
        return None
    return SERVER


def _libraries(named: Path | None, reading: NvidiaReading, report: Report) -> Path | None:
    """CUDA 12 for legacy models: a folder, or packages, which are installed where they are missing."""
    if named is None and reading.devices and ctransformers_cuda.find(None).problem:
        report.say("installing cortex[cuda-legacy]")
        subprocess.run(
            [processes.ROOT / "build" / "venv", "test", "demo", "cuda-legacy"], check=False, stdout=sys.stderr
        )
        importlib.invalidate_caches()
    return named.resolve() if named else None


def main() -> int:
    args = _arguments()
    report, reading = Report(), Nvidia().read()
    if not args.rehearse and (reading.unavailable_reason or not reading.devices):
        why = reading.unavailable_reason or "NVML finds none"
        report.say(f"build/test gpu: there is no NVIDIA GPU that could be used here: {why}; nothing was run")
        return NO_GPU
    if args.rehearse:
        reading = NvidiaReading()
    try:
        demo_model()
    except CannotRun as error:
        report.say(f"build/test gpu: {error}")
        return 2
    plan = Plan(
        reading,
        server=args.server.resolve() if args.server else _server(reading, report),
        backends=args.backends.resolve() if args.backends else None,
        libraries=_libraries(args.cuda12, reading, report),
        settings={"gpu_layers": 0, "threads": 1} if args.rehearse else {"devices": [reading.devices[0].index]},
        tokens=8 if args.rehearse else TOKENS,
    )
    show(plan, report)
    report.say("\n" + table(report, reading) + "\n")
    report.say("not held: " + "; ".join(report.failed) if report.failed else "all of it held")
    if args.json:
        told = {"driver": reading.driver_version, "cuda": reading.cuda_version, "claims": report.claims}
        print(json.dumps(told | {"figures": report.figures}))
    return 1 if report.failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="build/test gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server", type=Path, metavar="FILE", help="a llama-server with CUDA (dist/engine/llama-server)"
    )
    parser.add_argument("--backends", type=Path, metavar="FOLDER", help="what build/backends --cuda made (none)")
    parser.add_argument(
        "--cuda12", type=Path, metavar="FOLDER", help="CUDA 12's libraries for legacy models (packages)"
    )
    parser.add_argument("--json", action="store_true", help="figures and claims as one JSON object on stdout")
    parser.add_argument(
        "--rehearse", action="store_true", help="the same on the processor, where there is no GPU; it proves nothing"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""`build/test gpu`: what can only be shown where there is an NVIDIA GPU, in one command.

For the built-in engine with its CUDA backend, for legacy models by ctransformers' CUDA library, and for a llama-server (made
where there is none: that takes a while, so it comes last): discovery, memory before and after loads, answers, a killed engine,
tokens/s at 1 and 8 streams beside the bare llama-server, refusals of what is for other GPUs. A part that fails, or whose
means are missing, did not hold, and the next one is begun. Figures are kept as they are found out; the table at the end belongs
into README's hardware section.

Where nothing can be installed, PYTHON names a Python that has what cortex needs:
    PYTHON=python3 build/test gpu --offline --within 540 --model FILE --backends FOLDER

Exit status: 0 all of it held, 1 something did not, 2 something that it needs is missing, 3 there is no GPU here.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
from helpers.legacy_falcon import falcon_bytes
from helpers.legacy_ggml import ANSWER, PROMPT, write_legacy_models

from benchmarks import gpu_claims, gpu_neuron, gpu_plan, processes
from benchmarks.errors import CannotRun
from benchmarks.gpu_plan import Plan
from benchmarks.gpu_report import Report
from benchmarks.gpu_speed import STREAMS, speeds
from benchmarks.ports import free_port
from cortex.neuron.hardware.host import usable_cores
from cortex.neuron.hardware.nvidia import Nvidia, NvidiaReading

NO_GPU = 3
DEMO: Mapping[str, Any] = {"model_id": "demo", "context": 16_384, "parallel": 8, "chat_template": "chatml"}
OLD: Mapping[str, Any] = {"model_id": "ggjt", "context": 2048, "chat_template": "chatml", "max_wait_secs": 600}
FAMILIES = ("falcon", "mpt", "starcoder")
ALONE = "llama-server alone"


# ---- the parts


def discovery(plan: Plan, report: Report) -> None:
    seen = Nvidia().read()
    with gpu_neuron.running({}, "", {}, report.within, report.log("discovery")) as neuron:
        found, health = neuron.http.get("/discovery").json(), neuron.http.get("/health").json()
        report.note("discovery", **found)
        report.note("health", devices=health["devices"])
        for device in found["devices"]:
            told = {key: device[key] for key in ("index", "name", "vram_total_mb", "compute_capability", "uuid")}
            report.say(f"     {json.dumps(told)}")
        report("discovery lists what NVML lists", len(found["devices"]) == len(seen.devices))
        free = [device["vram_free_mb"] for device in health["devices"] if device["vram_free_mb"]]
        report("health tells what each GPU has free", len(free) == len(seen.devices) or plan.card is None)


def built_in(plan: Plan, report: Report) -> None:
    gpu_plan.check_backends(plan)
    _llama_cpp(plan, "built-in engine", f'[harness.llamacpp]\nbackends = "{plan.backends}"\n', report)


def server(plan: Plan, report: Report) -> None:
    if not gpu_plan.has_server(plan):
        report.part("server: build/engine", partial(gpu_plan.make_server, plan, report))
    if not gpu_plan.has_server(plan):
        raise CannotRun("there is no llama-server to show it with")
    report.part(f"server: {ALONE}", partial(_bare, plan, report))
    _llama_cpp(plan, "llama-server", f'[harness.llamacpp]\nserver_binary = "{plan.server}"\n', report)


def _llama_cpp(plan: Plan, name: str, section: str, report: Report) -> None:
    files = {"demo.gguf": plan.model}
    with gpu_neuron.running(files, section, plan.settings, report.within, report.log(name)) as neuron:
        reason = neuron.http.get("/discovery").json().get("cuda_unavailable_reason")
        if plan.card and reason:
            raise CannotRun(reason)
        gpu_claims.everything(neuron, DEMO, name, plan.tokens, report, on_gpu=plan.card is not None)


def _bare(plan: Plan, report: Report) -> None:
    """The server itself, on the same card, with what the neuron's harness tells it."""
    port, layers = free_port(), "999" if plan.card else "0"
    visible = (plan.card.uuid or str(plan.card.index)) if plan.card else ""
    threads = 1 if plan.card is None else max(1, usable_cores() - 1)
    command = ["env", "CUDA_DEVICE_ORDER=PCI_BUS_ID", f"CUDA_VISIBLE_DEVICES={visible}", str(plan.server)]
    command += ["--model", str(plan.model), "--port", str(port), "--alias", "demo", "--jinja"]
    command += ["--ctx-size", str(DEMO["context"]), "--parallel", "8", "--kv-unified", "--n-gpu-layers", layers]
    command += ["--threads", str(threads), "--chat-template", "chatml", "--batch-size", "512", "--ubatch-size", "512"]
    within_s = report.within(gpu_neuron.START_S)
    with processes.running(command, port=port, log=report.log(ALONE), within_s=within_s):
        url = f"http://127.0.0.1:{port}"
        gpu_neuron.until(lambda: httpx.get(f"{url}/health").status_code == 200, report.within(gpu_neuron.START_S))
        report.note(ALONE, tokens_per_s=speeds(url, "demo", plan.tokens, report.within))
        report.say(f"     tokens/s by streams: {report.figures[ALONE]['tokens_per_s']}")


def legacy(plan: Plan, report: Report) -> None:
    """Families of before GGUF: their known answers, and the model rewritten as one of them."""
    name = "ctransformers"
    gpu_plan.install_cuda12(plan, report)
    section = f'[harness.ctransformers]\ncuda_libraries = "{plan.libraries}"\n' if plan.libraries else ""
    wanted: dict[str, Any] = {"gpu_layers": -1} if plan.card else {}
    with (
        tempfile.TemporaryDirectory(prefix="cortex-gpu-") as folder,
        gpu_neuron.running(
            _legacy_files(Path(folder), plan.model, report), section, plan.settings, report.within, report.log(name)
        ) as neuron,
    ):
        reason = neuron.detail(name).get("cuda_unavailable_reason")
        if plan.card and reason:
            raise CannotRun(reason)
        for family in FAMILIES:
            model = {"model_id": family, **wanted}
            report.part(f"{name}: {family}", partial(gpu_claims.completes, neuron, model, PROMPT, ANSWER, name, report))
        gpu_claims.everything(neuron, {**OLD, **wanted}, name, plan.tokens, report, on_gpu=plan.card is not None)


def _legacy_files(folder: Path, model: Path, report: Report) -> dict[str, Path]:
    write_legacy_models(folder)
    (folder / "falcon.bin").write_bytes(falcon_bytes())
    report.part("ctransformers: the model as ggjt", partial(_write_ggjt, model, folder / "ggjt.bin"))
    return {file.name: file for file in folder.glob("*.bin")}


def _write_ggjt(model: Path, file: Path) -> None:
    """Needs the package gguf, which nothing else here does."""
    from helpers.smollm2_to_ggjt import write_ggjt_model

    write_ggjt_model(model, file)


def strangers(plan: Plan, report: Report) -> None:
    """A build for something else says so, and the processor does not stand in for the GPU."""
    with tempfile.TemporaryDirectory(prefix="cortex-gpu-") as folder:
        section = f'[harness.llamacpp]\nbackends = "{_for_other_gpus(Path(folder))}"\n'
        with gpu_neuron.running(
            {"demo.gguf": plan.model}, section, {}, report.within, report.log("strangers")
        ) as neuron:
            refused = neuron.load(DEMO)
            held = refused.status_code == 422 and "cuda_unsupported" in refused.text
            report(f"a backend that is compiled for other GPUs is refused: {refused.text[:200]}", held)


def _for_other_gpus(folder: Path) -> Path:
    """A folder of backends as one for the first GPUs of compute capability 3 would look to a neuron."""
    cuda = {"file": "libggml-cuda.so", "version": "11.0", "architectures": ["30-real"], "libraries": []}
    manifest = {"xllamacpp": metadata.version("xllamacpp"), "cpu": [], "cuda": cuda}
    (folder / "backends.json").write_text(json.dumps(manifest))
    (folder / "libggml-cuda.so").touch()
    return folder


# In the order in which they are shown: what takes long to prepare comes last.
_PARTS: Mapping[str, Callable[[Plan, Report], None]] = {
    "discovery": discovery,
    "strangers": strangers,
    "built-in": built_in,
    "ctransformers": legacy,
    "server": server,
}


# ---- the table


def table(report: Report, reading: NvidiaReading) -> str:
    """For README's hardware section: MiB before, during and after a load; seconds of the first and the second one."""
    cards = ", ".join(device.name for device in reading.devices) or "the processor"
    heads = ["load, s", "MiB before, loaded, after", "estimate, MiB"]
    heads += [
        head for count in STREAMS for head in (f"{count} stream{'s' * (count > 1)}, tokens/s", "of the bare server")
    ]
    lines = [f"| {cards}, driver {reading.driver_version}, CUDA {reading.cuda_version} | " + " | ".join(heads) + " |"]
    lines.append("|---" * (1 + len(heads)) + "|")
    alone = report.figures.get(ALONE, {}).get("tokens_per_s", {})
    for name, found in report.figures.items():
        if "memory_mb" in found or "tokens_per_s" in found:
            lines.append(f"| {name} | " + " | ".join([*_memory(found), *_speed(found, alone)]) + " |")
    return "\n".join(lines)


def _memory(found: Mapping[str, Any]) -> list[str]:
    return [
        ", ".join(f"{each:.1f}" for each in found.get("load_s", ())),
        ", ".join(map(str, found.get("memory_mb", {}).values())),
        str(found.get("told", {}).get("vram_estimate_mb", "")),
    ]


def _speed(found: Mapping[str, Any], alone: Mapping[int, float]) -> list[str]:
    cells = []
    for count in STREAMS:
        rate = found.get("tokens_per_s", {}).get(count)
        cells.append("" if rate is None else f"{rate:.0f}")
        cells.append(f"{rate / alone[count]:.2f}" if rate and count in alone else "")
    return cells


def main() -> int:
    args = gpu_plan.arguments(__doc__)
    reading = Nvidia().read()
    if not args.rehearse and (reading.unavailable_reason or not reading.devices):
        why = reading.unavailable_reason or "NVML finds none"
        print(
            f"build/test gpu: there is no NVIDIA GPU that could be used here: {why}; nothing was run", file=sys.stderr
        )
        return NO_GPU
    try:
        plan, report = gpu_plan.of(args, reading), Report(args.output, args.within)
    except (CannotRun, OSError) as error:
        print(f"build/test gpu: {error}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends it gets the table, and no neuron is left
    report.note("host", driver=reading.driver_version, cuda=reading.cuda_version, card=plan.card and plan.card.name)
    try:
        for name, do in _PARTS.items():
            if name in args.parts:
                report.part(name, partial(do, plan, report))
    except KeyboardInterrupt:
        report("it was let run to its end", held=False)
    print("\n" + table(report, reading) + "\n", file=sys.stderr)
    report.say("not held: " + "; ".join(report.failed) if report.failed else "all of it held")
    report.say(f"figures and logs: {report.folder}")
    if args.json:
        print(json.dumps(report.told()))
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())

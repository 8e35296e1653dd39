"""What is claimed of engines on GPUs, one model after another: a load's memory, an answer, a killed engine, how fast they write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from benchmarks import gpu_neuron
from benchmarks.gpu_neuron import GpuNeuron, Memory
from benchmarks.gpu_report import Report
from benchmarks.gpu_speed import speeds

BACK_MB = 64  # of what was free before a load must be free after its end, but so much
TOLD = ("devices", "vram_used_mb", "vram_estimate_mb")


def everything(
    neuron: GpuNeuron, model: Mapping[str, Any], name: str, tokens: int, report: Report, *, on_gpu: bool
) -> None:
    """A part each, so that one that fails leaves the others."""
    report.part(f"{name}: memory", lambda: loads(neuron, model, name, report, on_gpu=on_gpu))
    report.part(f"{name}: an answer", lambda: answers(neuron, model, name, report))
    report.part(f"{name}: speed", lambda: writes(neuron, model, name, tokens, report))
    report.part(f"{name}: a killed engine", lambda: killed(neuron, model, name, report))


def loads(neuron: GpuNeuron, model: Mapping[str, Any], name: str, report: Report, *, on_gpu: bool) -> None:
    """Memory of a load and after its end; a second load, which finds compiled what the first had to compile."""
    neuron.empty()
    before = neuron.used_mb()
    seconds = [neuron.loaded(model)]
    loaded, entry = neuron.used_mb(), neuron.entry()
    neuron.unload(model)
    memory = Memory(before, loaded, neuron.settled_mb(before + BACK_MB))
    told = {key: entry.get(key) for key in TOLD}
    report.note(name, memory_mb=asdict(memory), told=told, load_s=seconds)
    report.say(f"     {memory}; the neuron says {told}")
    report(f"{name}: the model is in the GPU's memory", memory.loaded - memory.before >= BACK_MB or not on_gpu)
    report(f"{name}: memory is back to within {BACK_MB} MiB", memory.after - memory.before <= BACK_MB)
    seconds.append(neuron.loaded(model))
    neuron.unload(model)
    report.note(name, load_s=[round(each, 2) for each in seconds])


def answers(neuron: GpuNeuron, model: Mapping[str, Any], name: str, report: Report) -> None:
    neuron.empty()
    neuron.loaded(model)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    body = {"model": model["model_id"], "messages": messages, "max_tokens": 32, "temperature": 0}
    answer = neuron.http.post("/v1/chat/completions", json=body).text
    neuron.unload(model)
    report.note(name, answer=answer[:500])
    report(f"{name}: it knows the capital of France", "Paris" in answer)


def completes(neuron: GpuNeuron, model: Mapping[str, Any], prompt: str, known: str, name: str, report: Report) -> None:
    """A prompt whose answer is known to the last letter."""
    neuron.empty()
    neuron.loaded(model)
    body = {"model": model["model_id"], "prompt": prompt, "max_tokens": 16, "temperature": 0}
    answer = neuron.http.post("/v1/completions", json=body).json()
    neuron.unload(model)
    text = answer["choices"][0]["text"] if "choices" in answer else str(answer)
    report(f"{name}: {model['model_id']} gives its known answer" + (f", not {text!r}" * (text != known)), text == known)


def killed(neuron: GpuNeuron, model: Mapping[str, Any], name: str, report: Report) -> None:
    neuron.empty()
    before = neuron.used_mb()
    neuron.loaded(model)
    engine = neuron.engine()
    gpu_neuron.end(engine)
    neuron.until(lambda: (entry := neuron.entry()).get("last_death") and entry["status"] == "loaded")
    report(f"{name}: a killed engine is replaced", neuron.engine() != engine)
    report(f"{name}: the driver knows nothing of the killed one", not neuron.holds(engine))
    neuron.unload(model)
    after = neuron.settled_mb(before + BACK_MB)
    report.note(name, after_kill_mb=after - before)
    report(f"{name}: its memory is back to within {BACK_MB} MiB", after - before <= BACK_MB)


def writes(neuron: GpuNeuron, model: Mapping[str, Any], name: str, tokens: int, report: Report) -> None:
    neuron.empty()
    neuron.loaded(model)
    found = speeds(str(neuron.http.base_url), model["model_id"], tokens, report.within)
    neuron.unload(model)
    report.note(name, tokens_per_s=found)
    report.say(f"     tokens/s by streams: {found}")

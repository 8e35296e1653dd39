"""`cortex inspect FILE`: what a model file says of itself, who would serve it here and why, what it would take, what is wrong with it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cortex.cli.outcome import Exit, Failure
from cortex.errors import CortexError
from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.gguf import GGUFError, Header
from cortex.neuron.hardware import host
from cortex.neuron.harness import choice
from cortex.neuron.harness.base import Harness, HostShare, ModelFiles
from cortex.neuron.modelfile import read_model_header
from cortex.neuron.models.estimate import estimate_memory, fit_context
from cortex.wire.fleet import LoadSettings

_FACTS = (
    "architecture",
    "name",
    "quant",
    "context_length",
    "block_count",
    "embedding_length",
    "head_count",
    "head_count_kv",
    "vocab_size",
    "expert_count",
    "tokenizer_model",
    "pooling",
    "tensor_count",
    "tensor_bytes",
    "file_bytes",
)


def inspect(args: argparse.Namespace) -> int:
    """0 when something here serves the file, 1 when nothing does or it is broken."""
    file: Path = args.file
    if not file.exists():
        raise Failure(f"there is no file '{file}'", Exit.usage)
    found = examine(file)
    print(json.dumps(found) if args.json else "\n".join(_lines(found)))
    return Exit.ok if found["harness"] else Exit.failed


def examine(file: Path) -> dict[str, Any]:
    """`{file, problem, header, harness, reasons, memory}`; `problem` None: nothing is wrong with the file itself."""
    empty: dict[str, Any] = {"file": str(file), "header": None, "harness": None, "reasons": {}, "memory": None}
    try:
        header = read_model_header(file)
    except GGUFError as error:
        return empty | {"problem": str(error)}
    if header is None:
        return empty | {"problem": "it is no model: it begins like no format that is known here"}
    harnesses = choice.available()
    reasons = {name: harness.cannot_serve(header) or _deeper(name, file) for name, harness in harnesses.items()}
    served = next((harness for name, harness in harnesses.items() if reasons[name] is None), None)
    return {
        "file": str(file),
        "problem": None,
        "header": _facts(header),
        "harness": served.name if served else None,
        "reasons": reasons,
        "memory": _memory(file, header, served) if served else None,
    }


def _deeper(name: str, file: Path) -> str | None:
    """What the ctransformers engine would refuse at its start: its library checks nothing by itself."""
    if name != "ctransformers":
        return None
    from cortex.neuron.harness.ctransformers_engine import model

    try:
        model.inspect(file)
    except (GGUFError, model.ModelRefused) as error:
        return str(error)
    return None


def _facts(header: Header) -> dict[str, Any]:
    container = f"{header.container} v{header.version}" if header.version else header.container
    known = {name: getattr(header, name) for name in _FACTS}
    return {
        "format": container,
        **{name: value for name, value in known.items() if value is not None},
        "chat_template": header.chat_template is not None,
    }


def _memory(file: Path, header: Header, harness: Harness) -> dict[str, Any]:
    """For a load without a wish, on the processor of this host as it is now. MiB."""
    try:
        spec = _spec(file, header, harness)
    except CortexError as error:
        return {"problem": error.message}
    estimate = estimate_memory(
        header, context=spec.context, parallel=spec.parallel, kv_type=spec.kv_type, batch=spec.batch
    )
    beside = spec.prompt_cache_mb + int(spec.extras.get("work_mb", 0))
    return {"context": spec.context, **asdict(estimate), "beside_mb": beside, "total_mb": estimate.total_mb + beside}


def _spec(file: Path, header: Header, harness: Harness) -> EngineSpec:
    free_mb = host.memory_free_mb()
    fitting = None if free_mb is None else fit_context(header, free_mb)
    share = HostShare(host.usable_cores(), memory_free_mb=free_mb, fitting_context=fitting)
    return harness.engine_spec(
        alias=file.stem,
        files=ModelFiles(file),
        header=header,
        settings=LoadSettings(),
        host=share,
        socket_path=Path("engine.sock"),
    )


def _lines(found: dict[str, Any]) -> Iterator[str]:
    if found["problem"]:
        yield f"{found['file']}: {found['problem']}"
        return
    yield f"{found['file']}:"
    for name, value in found["header"].items():
        yield f"  {name.replace('_', ' '):<18}{'yes' if value is True else 'no' if value is False else value}"
    yield f"harness: {found['harness'] or 'none'}"
    for name, reason in found["reasons"].items():
        yield f"  {name:<18}{reason or 'can serve it'}"
    if memory := found["memory"]:
        yield _memory_line(memory)


def _memory_line(memory: dict[str, Any]) -> str:
    if "problem" in memory:
        return f"memory: {memory['problem']}"
    parts = ", ".join(f"{name} {memory[key]}" for name, key in _PARTS)
    return f"memory: about {memory['total_mb']} MiB with a context of {memory['context']} tokens ({parts})"


_PARTS = (("weights", "weights_mb"), ("cache", "kv_mb"), ("computing", "compute_mb"), ("beside", "beside_mb"))

"""`build/bench engine`: the built-in engine beside itself with ggml's backend for this processor, on one thread."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks import random_model
from benchmarks.errors import CannotRun
from benchmarks.options import at_least_one
from cortex.net.pool import Pool
from cortex.neuron.engine.process import EngineFailed, EngineProcess
from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.hardware import processor
from cortex.neuron.harness import backends
from cortex.neuron.harness.backends import Backends

DESCRIPTION = """\
Starts two engines for each kind of weights, one with the library's own code (AVX2), one with the backend that a neuron would
choose for this processor, and has them answer by turns, on one thread: a prompt, then an answer to it. Printed are the
medians of tokens for each second of processor time, and their ratio; the model has random weights and some hundred MB.
"""
QUANTIZATIONS = ("Q4_0", "Q4_1", "Q4_K", "Q6_K", "Q8_0")
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Round:
    """Tokens for each second of processor time."""

    prompt: float
    answer: float


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "engine",
        help="what a backend for this processor brings the built-in engine",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--backends", type=Path, default=Path("dist/backends"), metavar="FOLDER", help="(dist/backends)"
    )
    parser.add_argument("--quantization", nargs="+", default=QUANTIZATIONS, metavar="Q", help=" ".join(QUANTIZATIONS))
    parser.add_argument("--model", type=Path, metavar="FILE", help="a model in place of those with random weights")
    parser.add_argument("--rounds", type=at_least_one, default=5, help="of each, after one that does not count (5)")
    parser.add_argument("--prompt", type=at_least_one, default=512, metavar="TOKENS", help="(512)")
    parser.add_argument("--answer", type=at_least_one, default=128, metavar="TOKENS", help="(128)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    variant = chosen(args.backends)
    figures: dict[str, Any] = {"backend": Path(variant).name, "weights": {}}
    if not args.json:
        print(f"{figures['backend']} beside the built-in engine, tokens for each second of processor time\n{HEADING}")
    with tempfile.TemporaryDirectory(prefix="cortex-bench-") as name:
        for quantization in (args.model.name,) if args.model else args.quantization:
            model = (args.model or _made(Path(name), quantization)).resolve()
            seen = asyncio.run(measure(model, Path(name), variant, args))
            figures["weights"][quantization] = compared = compare(seen)
            if not args.json:
                print(_line(quantization, compared), flush=True)
    if args.json:
        print(json.dumps(figures))
    return 0


HEADING = f"{'weights':<10} {'prompt':>26} {'answer':>28}"


def _line(quantization: str, figures: Mapping[str, float]) -> str:
    told = (
        f"{figures[f'{part}_built_in']:>8.0f} → {figures[f'{part}_backend']:>5.0f}, {figures[f'{part}_ratio']:.2f} times"
        for part in ("prompt", "answer")
    )
    return f"{quantization:<10} " + "    ".join(told)


def chosen(folder: Path) -> str:
    """The file that a neuron would take for this processor. Raises CannotRun."""
    if not folder.is_dir():
        raise CannotRun(f"there is no {folder}: build/backends makes it")
    found: Backends | None = backends.find(folder, processor.read_flags())
    if found is None or found.problem:
        raise CannotRun(found.problem if found and found.problem else f"{folder} has no backends")
    file = found.paths(on_gpu=False)["cpu_backend"]
    if file is None:
        raise CannotRun(f"{folder} has nothing for this processor that the built-in engine does not have itself")
    return str(file)


def _made(folder: Path, quantization: str) -> Path:
    model = folder / "random.gguf"
    print(f"making a model of {quantization} …", file=sys.stderr)
    random_model.write(model, quantization)
    return model


async def measure(model: Path, folder: Path, variant: str | None, args: argparse.Namespace) -> dict[str, list[Round]]:
    """Rounds of "built_in" and "backend", taken by turns. Raises CannotRun."""
    seen: dict[str, list[Round]] = {"built_in": [], "backend": []}
    async with contextlib.AsyncExitStack() as stack:
        engines = {
            name: await stack.enter_async_context(_engine(model, folder / f"{name}.sock", file, args))
            for name, file in (("built_in", None), ("backend", variant))
        }
        for number in range(args.rounds + 1):
            for name, engine in engines.items():
                seen[name].append(await _round(engine, number, args))
    return {name: rounds[1:] for name, rounds in seen.items()}  # the first reads weights from their file


@contextlib.asynccontextmanager
async def _engine(
    model: Path, socket: Path, file: str | None, args: argparse.Namespace
) -> AsyncIterator[EngineProcess]:
    spec = EngineSpec(
        harness="llamacpp",
        alias="random",
        model_path=str(model),
        socket_path=str(socket),
        context=args.prompt + args.answer + 64,
        parallel=1,
        cpu_backend=file,
    )
    try:
        engine = await EngineProcess.start(spec, deadline_s=START_S)
    except EngineFailed as failed:
        raise CannotRun(f"an engine did not start: {failed.reason}") from failed
    try:
        if problem := engine.info.get("cpu_backend_problem"):
            raise CannotRun(problem)
        yield engine
    finally:
        await engine.stop()


async def _round(engine: EngineProcess, number: int, args: argparse.Namespace) -> Round:
    """A prompt that the cache does not know and one token; then an answer to the same prompt, which it does know."""
    prompt = [300 + (7 * place + 31 * number) % 4000 for place in range(args.prompt)]
    first = await _cpu_seconds(engine, prompt, 1)
    whole = await _cpu_seconds(engine, prompt, args.answer)
    return Round(args.prompt / first, args.answer / whole)


async def _cpu_seconds(engine: EngineProcess, prompt: Sequence[int], tokens: int) -> float:
    """What the engine takes for `tokens`; the prompt's last one, which gives the first of them, among them."""
    body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": True}
    before = time.clock_gettime(_clock(engine.pid))
    async with (
        Pool(keepalive=False) as pool,
        await pool.open(
            engine.address,
            "POST",
            "/completion",
            headers=[("content-type", "application/json")],
            body=orjson.dumps(body),
        ) as exchange,
    ):
        answer = orjson.loads(await exchange.read_all(1 << 24))
    if answer.get("tokens_predicted") != tokens:
        raise CannotRun(f"an engine answered {str(answer)[:300]}")
    return time.clock_gettime(_clock(engine.pid)) - before


def _clock(pid: int) -> int:
    """The kernel's clock of a process's time on processors, as clock_getcpuclockid(3) makes it: /proc counts in hundredths."""
    return ~pid << 3 | 2


def compare(seen: Mapping[str, Sequence[Round]]) -> dict[str, float]:
    """Of "prompt" and "answer": the median of each way, and the ratio of these."""
    figures: dict[str, float] = {}
    for part in ("prompt", "answer"):
        medians = {name: statistics.median(getattr(each, part) for each in rounds) for name, rounds in seen.items()}
        figures |= {f"{part}_{name}": round(value, 1) for name, value in medians.items()}
        figures[f"{part}_ratio"] = round(medians["backend"] / medians["built_in"], 3)
    return figures

"""`cortex validate [HOST] [MODEL] [QUANT]`: prove that a neuron works, as the first generation's script did.

Its status lines go to stderr; stdout is the answer's JSON, byte for byte as it came.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from dataclasses import dataclass
from typing import Any

import orjson

from cortex.cli.client import Client, bearer_from, connected
from cortex.cli.outcome import Exit, Failure

PROBE = "What is the capital of France? Respond with the city name only, no punctuation."
EXPECTED = "paris"
MAX_TOKENS = 256  # a thinking model spends a small budget on its thoughts
DEFAULT_PORT = 13131


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds."""

    health: float
    load: float
    answer: float


def validate(args: argparse.Namespace) -> int:
    try:
        asyncio.run(_validate(args))
    except Failure as failure:
        if failure.code is Exit.usage:
            raise
        print(f"FAIL: {failure}", file=sys.stderr)
        return Exit.failed
    print("PASS", file=sys.stderr)
    return Exit.ok


async def _validate(args: argparse.Namespace) -> None:
    timeouts = Timeouts(*args.timeouts)
    async with connected(_base_url(args.host), bearer_from("NEURON_TOKEN")) as neuron:
        say = _Speaker(args.host)
        say(f"health: {neuron.base}/health")
        await neuron.ask("GET", "/health", within_s=timeouts.health)
        if await _is_loaded(neuron, args.model, timeouts):
            say(f"{args.model} is loaded")
        else:
            await _load(neuron, args, say, timeouts)
        say(f"asking: {PROBE}")
        check_answer(await _answer(neuron, args.model, timeouts))


class _Speaker:
    def __init__(self, host: str) -> None:
        self._host = host

    def __call__(self, text: str) -> None:
        print(f"[{self._host}] {text}", file=sys.stderr, flush=True)


async def _is_loaded(neuron: Client, model: str, timeouts: Timeouts) -> bool:
    """A neuron lists what is on its disk as well; neurons of the first generation list what is loaded, and say so."""
    models = await neuron.ask("GET", "/models", within_s=timeouts.health)
    if not isinstance(models, list):
        raise Failure("GET /models did not answer with a list")
    return any(
        isinstance(entry, dict) and entry.get("id") == model and entry.get("status", "loaded") == "loaded"
        for entry in models
    )


async def _load(neuron: Client, args: argparse.Namespace, say: _Speaker, timeouts: Timeouts) -> None:
    body = {"model_id": args.model, "harness": "candle", "quant": args.quant, "devices": [0]}
    say(f"loading {args.model} {args.quant}")
    answer = await neuron.exchange("POST", "/models/load", body, within_s=timeouts.load)
    say(f"HTTP {answer.status_code} {answer.text}")
    if answer.status_code != 200:
        raise Failure(f"/models/load answered HTTP {answer.status_code}")


async def _answer(neuron: Client, model: str, timeouts: Timeouts) -> bytes:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": PROBE}],
        "temperature": 0.1,
        "max_tokens": MAX_TOKENS,
    }
    answer = await neuron.exchange("POST", "/v1/chat/completions", body, within_s=timeouts.answer)
    sys.stdout.buffer.write(answer.content)
    sys.stdout.flush()
    if sys.stdout.isatty():
        print(file=sys.stderr)  # JSON ends without a line break
    if answer.status_code != 200:
        raise Failure(f"/v1/chat/completions answered HTTP {answer.status_code}")
    return answer.content


def check_answer(raw: bytes) -> None:
    """Raises Failure unless `raw` is a chat completion whose text contains Paris."""
    try:
        choice: Any = orjson.loads(raw)["choices"][0]
        text = choice["message"]["content"] or ""
    except orjson.JSONDecodeError as error:
        raise Failure(f"the answer is not JSON: {error}") from error
    except (KeyError, IndexError, TypeError) as error:
        raise Failure("the answer is JSON, but no chat completion") from error
    if not isinstance(text, str) or EXPECTED not in text.lower():
        cut = f" (it ended at its {MAX_TOKENS} tokens)" if choice.get("finish_reason") == "length" else ""
        raise Failure(f"the answer does not contain 'Paris'{cut}")


def _base_url(host: str) -> str:
    if host.startswith(("http://", "https://")):
        return host
    return f"http://{_address(host)}"


def _address(host: str) -> str:
    if ":" in host.rpartition("]")[2]:
        return host
    port = os.environ.get("NEURON_PORT", str(DEFAULT_PORT))
    if not port.isdigit():
        raise Failure(f"NEURON_PORT is '{port}', which is no port", Exit.usage)
    return f"{host}:{port}"

"""How many tokens a second a server writes, for one stream and for several at once."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from benchmarks.errors import CannotRun

STREAMS = (1, 8)
ROUNDS = 3
_WITHIN_S = 600.0


def speeds(url: str, model: str, tokens: int, within: Callable[[float], float]) -> dict[int, float]:
    """Tokens a second of all streams together, by number of streams: the median of some rounds."""
    return {streams: _tokens_per_s(url, model, streams, tokens, within) for streams in STREAMS}


def _tokens_per_s(url: str, model: str, streams: int, tokens: int, within: Callable[[float], float]) -> float:
    """After as many that warm up: a library loads code when it needs it first."""
    with ThreadPoolExecutor(streams) as threads:

        def rate(tokens: int) -> float:
            begun = time.monotonic()
            written = sum(threads.map(lambda _: _written(url, model, tokens, within(_WITHIN_S)), range(streams)))
            return written / (time.monotonic() - begun)

        rate(8)
        return round(statistics.median(rate(tokens) for _ in range(ROUNDS)), 1)


def _written(url: str, model: str, tokens: int, within_s: float) -> int:
    """The tokens of one answer, by its own word. Raises CannotRun."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Write a long story about a lighthouse."}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    written = 0
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=within_s, trust_env=False) as answer:
        if answer.status_code != 200:
            raise CannotRun(f"{url} answered {answer.status_code}: {answer.read()[:300]!r}")
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    raise CannotRun(f"{url}: {event['error']}")
                written = (event.get("usage") or {}).get("completion_tokens", written)
    if not written:
        raise CannotRun(f"{url} did not say how many tokens it wrote")
    return int(written)

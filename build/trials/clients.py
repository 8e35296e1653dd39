"""Who asks all the while: streams and whole answers, models and an alias; some leave in the middle."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import httpx

from trials.fleet import FAKED, HUNG_S, REAL
from trials.verdict import Asked, Malformed, Tally, WrongModel, error_in

LEAVING = 0.1
PATIENCE_S = (0.0, 2.0)  # of one that leaves
THINKING_S = (0.0, 0.2)
LONG_TOKENS = 200


@dataclass(frozen=True, slots=True)
class Question:
    model: str
    asked: Asked
    body: dict[str, object]
    leaves_after_s: float | None


def question(chance: random.Random) -> Question:
    model = chance.choice([*REAL, *REAL, FAKED, "quick"])
    stream, long = chance.random() < 0.6, chance.random() < 0.3 and model != FAKED
    text = "[[loop]]" if long else "hi"
    body: dict[str, object] = {
        "model": model,
        "stream": stream,
        "max_tokens": LONG_TOKENS if long else 32,
        "messages": [{"role": "user", "content": text}],
    }
    models = frozenset(REAL if model == "quick" else [model])  # the alias changes its target all the while
    leaves = chance.uniform(*PATIENCE_S) if chance.random() < LEAVING else None
    # A fake says its sentence to everything, so only what a real model alone can serve is held to a text.
    return Question(model, Asked(models, stream, says=not long), body, leaves)


async def client(url: str, chance: random.Random, tally: Tally, ended: asyncio.Event) -> None:
    """Ask, one question after the other, until `ended`; the last answer is waited for."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=None) as http:  # noqa: S113  each answer has its deadline
        while not ended.is_set():
            await _ask(http, question(chance), tally)
            await asyncio.sleep(chance.uniform(*THINKING_S))


async def _ask(http: httpx.AsyncClient, question: Question, tally: Tally) -> None:
    try:
        async with asyncio.timeout(question.leaves_after_s or HUNG_S):
            status, headers, body = await _answer(http, question)
    except TimeoutError:
        if question.leaves_after_s is None:
            tally.hung += 1
            tally.examples.append(f"hung: {question.body}")
        else:
            tally.left += 1
        return
    except httpx.HTTPError as error:
        tally.malformed += 1
        tally.examples.append(f"malformed: {error!r} for {question.body}")
        return
    _judge(question, status, headers, body, tally)


async def _answer(http: httpx.AsyncClient, question: Question) -> tuple[int, dict[str, str], bytes]:
    async with http.stream("POST", "/v1/chat/completions", json=question.body) as answer:
        return answer.status_code, dict(answer.headers), await answer.aread()


def _judge(question: Question, status: int, headers: dict[str, str], body: bytes, tally: Tally) -> None:
    try:
        code = error_in(question.asked, status, headers, body)
    except Malformed as wrong:
        tally.malformed += 1
        tally.examples.append(f"malformed: {wrong} ({status}, {headers.get('x-cortex-node')}) for {question.body}")
    except WrongModel as wrong:
        tally.wrong_model += 1
        tally.examples.append(f"wrong model: {wrong} ({headers.get('x-cortex-node')}) for {question.body}")
    else:
        if code is None:
            tally.complete += 1
        else:
            tally.errors[code] += 1

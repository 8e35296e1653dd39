"""Requests by chance against a role that runs, and what is wrong with its answers. A seed repeats them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from helpers.described import Described
from helpers.described_fleet import ALIAS, EMBED, LEGACY, RANK, Role
from helpers.live import SCRIPTED
from helpers.schema_values import Values

HUNG_S = 20.0
FAULTS = frozenset({500, 502, 504})  # nothing stands behind that fails here, but neurons that joined by chance
# Fields whose values are mostly real, so that requests come further than "no such model".
KNOWN: dict[str, list[Any]] = {
    "model": [SCRIPTED, SCRIPTED, ALIAS, EMBED, RANK, LEGACY],
    "model_id": [SCRIPTED, EMBED, RANK, LEGACY],
    "node": ["local"],
    "harness": ["auto", "candle", "llamacpp", "ctransformers"],
    "source": [None],
    "endpoint": [None],
    "wait": [True],
    "name": ["local", "other"],
    "job_id": ["none"],
}
HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"x-cortex-wait": "fail-fast"},
    {"x-cortex-wait": "odd"},
    {"authorization": "Bearer nobody"},
    {"authorization": "Bearer shared"},
    {"x-api-key": "\xff"},
    {"anthropic-version": "2023-06-01"},
    {"content-type": "text/plain"},
)


@dataclass(frozen=True, slots=True)
class Case:
    operation: Described
    path: str
    headers: Mapping[str, str]
    body: bytes | None

    def __str__(self) -> str:
        shown = repr(self.body[:600]) if self.body is not None else ""
        return f"{self.operation.method} {self.path} {self.headers or ''} {shown}"


def cases(role: Role, seed: int, count: int) -> Iterator[Case]:
    """Operations with a body come three times as often: that is where clients make mistakes."""
    chance = random.Random(f"{role.name} {seed}")
    weights = [3 if operation.body else 1 for operation in role.api.operations]
    values = Values(chance, role.api.schemas, KNOWN)
    for operation in chance.choices(role.api.operations, weights, k=count):
        body = values.body(operation.body) if operation.body else None
        yield Case(operation, _path(values, operation), chance.choice(HEADERS), body)


def _path(values: Values, operation: Described) -> str:
    path, query = operation.path, []
    for each in operation.parameters:
        spoil = values.chance.random() < 0.4
        value = values.spoilt(each["schema"]) if spoil else values.fitting(each["schema"])
        if each["in"] == "path":
            known = KNOWN.get(each["name"]) if values.chance.random() < 0.6 else None
            part = str(values.chance.choice(known) if known else value) or "-"  # an empty one makes another path
            path = path.replace(f"{{{each['name']}}}", quote(part, safe=""))
        elif each["in"] == "query" and (each["required"] or values.chance.random() < 0.5):
            query.append(f"{each['name']}={quote(str(value), safe='')}")
    return path + ("?" + "&".join(query) if query else "")


def is_fault(operation: Described, status: int) -> bool:
    return status in FAULTS and not (status == 502 and operation.path.startswith("/nodes/"))


async def complaint(role: Role, case: Case) -> str | None:
    """What is wrong with the answer to a case, or None."""
    began = time.monotonic()
    headers = [(name.encode(), value.encode("latin-1")) for name, value in case.headers.items()]
    try:
        answer = await role.live.http.request(
            case.operation.method, case.path, headers=headers, content=case.body, timeout=HUNG_S
        )
    except httpx.HTTPError as error:
        return f"{error!r} after {time.monotonic() - began:.1f} s"
    if is_fault(case.operation, answer.status_code):
        return f"{answer.status_code}: {answer.text[:300]}"
    kind = answer.headers.get("content-type", "")
    wrong = role.api.complaint(case.operation, answer.status_code, kind, answer.content)
    return f"{answer.status_code}: {wrong}: {answer.text[:300]}" if wrong else None

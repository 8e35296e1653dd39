"""What an answer was. Pure: bytes in, a verdict out.

An answer is complete when it is whole and from a model that was asked for; an error when it says so in the way of its
format; malformed when it is neither.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

RETRYABLE = (429, 503)


class Malformed(Exception):  # noqa: N818  reads as what it is
    """The answer is neither whole nor an error."""


class WrongModel(Exception):  # noqa: N818  reads as what it is
    """The answer is of a model that was not asked for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """models: ids that may answer. says: whether the answer is the one sentence that each of them says."""

    models: frozenset[str]
    stream: bool
    says: bool


@dataclass
class Tally:
    """The table. `left` are requests whose client went away: they are in no other number."""

    complete: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    malformed: int = 0
    hung: int = 0
    wrong_model: int = 0
    left: int = 0
    leaked_processes: int = 0
    leaked_sockets: int = 0
    leaked_permits: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return self.complete + self.errors.total() + self.malformed + self.hung + self.wrong_model

    @property
    def is_clean(self) -> bool:
        return not any(count for name, count in self.told().items() if name in _MUST_BE_ZERO)

    def told(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "complete": self.complete,
            "errors": dict(sorted(self.errors.items())),
            **{name: getattr(self, name) for name in _MUST_BE_ZERO},
        }


_MUST_BE_ZERO = ("malformed", "hung", "wrong_model", "leaked_processes", "leaked_sockets", "leaked_permits")


def sentence(model: str) -> str:
    """What a model of the trial says to whatever it is asked."""
    return f"Hello from {model}."


def error_in(asked: Asked, status: int, headers: dict[str, str], body: bytes) -> str | None:
    """The code of a well-formed error, None for a complete answer. Raises Malformed and WrongModel."""
    if status != 200:
        return _error_body(status, headers, body)
    if asked.stream:
        return _stream(asked, body)
    _whole(asked, body)
    return None


def _error_body(status: int, headers: dict[str, str], body: bytes) -> str:
    code = _error_code(_json(body))
    if status < 400:
        raise Malformed(f"status {status} with an error")
    if status in RETRYABLE and "retry-after" not in headers:
        raise Malformed(f"status {status} without Retry-After")
    return code


def _error_code(said: Any) -> str:
    error = said.get("error") if isinstance(said, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str) or not error["message"]:
        raise Malformed(f"no error object: {str(said)[:200]}")
    return str(error.get("code") or error.get("type"))


def _whole(asked: Asked, body: bytes) -> None:
    answer = _json(body)
    try:
        _check_model(asked, answer["model"])
        choice = answer["choices"][0]
        _check_text(asked, choice["message"]["content"] or "", choice["finish_reason"])
    except (KeyError, IndexError, TypeError) as error:
        raise Malformed(f"no chat completion: {body[:200]!r}") from error


def _stream(asked: Asked, body: bytes) -> str | None:
    *events, rest = body.split(b"\n\n")
    if rest:
        raise Malformed(f"cut inside an event: {rest[:100]!r}")
    data = list(_data_of(events))
    if not data:
        raise Malformed("a stream without an event")
    *chunks, last = data
    parsed = [_json(chunk) for chunk in chunks]
    if any("error" in chunk for chunk in parsed):
        raise Malformed("an error event that is not the last one")
    for chunk in parsed:
        _check_model(asked, chunk.get("model"))
    if last != b"[DONE]":
        return _error_code(_json(last))
    choices = [choice for chunk in parsed for choice in chunk.get("choices", ())]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    finish = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    if len(finish) != 1:
        raise Malformed(f"{len(finish)} finish reasons")
    _check_text(asked, text, finish[0])
    return None


def _data_of(events: Iterable[bytes]) -> Iterable[bytes]:
    for event in events:
        for line in event.split(b"\n"):
            if line.startswith(b"data: "):
                yield line[6:]
            elif not line.startswith(b":"):
                raise Malformed(f"no event: {line[:100]!r}")


def _check_model(asked: Asked, model: Any) -> None:
    if model not in asked.models:
        raise WrongModel(f"{model!r} answered instead of {sorted(asked.models)}")


def _check_text(asked: Asked, text: str, finish: str) -> None:
    """The text tells models apart also where their names are set by us."""
    if not asked.says:
        return
    if finish != "stop":
        raise Malformed(f"'{text}' ended by {finish}")
    if text not in {sentence(model) for model in asked.models}:
        kind = WrongModel if re.fullmatch(r"Hello from \w+\.", text) else Malformed
        raise kind(f"'{text}' from one of {sorted(asked.models)}")


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise Malformed(f"no JSON: {data[:200]!r}") from error

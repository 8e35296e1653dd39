"""Corrections of one choice of a chat chunk."""

from __future__ import annotations

from typing import Any

from cortex.neuron.harness.answers.events import Json, Step


def without_role(choice: Json) -> Json | None:
    """The role is told once, before the first token: llama.cpp repeats it, or forgets it where that token is half a character."""
    delta = choice["delta"]
    if delta.pop("role", None) is not None and delta.get("content") is None:
        delta.pop("content", None)
    return choice if says_anything(choice) else None


def says_anything(choice: Json) -> bool:
    return bool(choice["delta"] or choice.get("finish_reason") or choice.get("logprobs"))


def top_logprobs(count: int) -> Step:
    """`count` alternatives of each token: the engine tells a token's own probability only beside at least one."""

    def step(choice: Json) -> Json:
        if told := choice.get("logprobs"):
            told["content"] = [_trimmed(token, count) for token in told.get("content") or ()]
            told["refusal"] = None
        return choice

    return step


def _trimmed(token: dict[str, Any], count: int) -> dict[str, Any]:
    return token | {"top_logprobs": token.get("top_logprobs", [])[:count]}

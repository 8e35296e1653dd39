"""The most tokens that a request can take, before it is sent. Pure.

Prompt: a token for four bytes of text, which is what English and code come to; a picture counts as one, whatever the
size of its base64. Answer: what the request allows, and where it allows anything, what its profile does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cortex.config.catalogue import Profile

BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 8  # what a chat template writes around each
MEDIA_TOKENS = 1024  # a picture or a recording
OUTPUT_TOKENS = 4096  # of an answer that nothing bounds
_GENERATING = frozenset({"/v1/chat/completions", "/v1/completions"})
_TEXT_FIELDS = ("messages", "prompt", "suffix", "input", "query", "documents", "tools", "functions", "response_format")
_MEDIA_TYPES = frozenset({"image_url", "image", "input_image", "input_audio", "audio", "video_url", "input_video"})
_BOUNDS = ("max_completion_tokens", "max_tokens", "n_predict")
NO_BOUND = -1  # as clients of local servers say it


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens, at most. `bounds` are fields to be sent with the request, so that its answer keeps to what was reserved."""

    prompt: int
    completion: int
    bounds: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.prompt + self.completion


def estimate(path: str, payload: Mapping[str, Any], profile: Profile | None) -> Estimate:
    """Of an OpenAI request."""
    prompt = sum(_tokens(payload.get(name)) for name in _TEXT_FIELDS)
    if path not in _GENERATING:
        return Estimate(prompt, 0)
    usual, context = _usual_bound(profile), _context(profile)
    given = {name: payload[name] for name in _BOUNDS if payload.get(name) is not None}
    unbounded = [name for name, value in given.items() if value == NO_BOUND] if given else ["max_tokens"]
    bounds = dict.fromkeys(unbounded, usual)
    asked = max(map(_count, [*given.values(), *bounds.values()])) or usual
    return Estimate(prompt, min(asked, context or asked) * _answers(payload), bounds)


def _usual_bound(profile: Profile | None) -> int:
    if profile is None:
        return OUTPUT_TOKENS
    return (profile.limit and profile.limit.output) or profile.max_output_tokens or OUTPUT_TOKENS


def _context(profile: Profile | None) -> int | None:
    if profile is None:
        return None
    return profile.limit.context if profile.limit else profile.context


def _answers(payload: Mapping[str, Any]) -> int:
    """How many answers one request wants: `n` of each prompt."""
    prompt = payload.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    return prompts * max(_count(payload.get("n")), _count(payload.get("best_of")), 1)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _tokens(value: Any) -> int:
    """Of any JSON. A number is a token of a prompt that came as tokens. Nesting is no deeper than the parser allows."""
    text, tokens, waiting = 0, 0, [value]
    while waiting:
        match waiting.pop():
            case str() as words:
                text += len(words.encode(errors="surrogatepass"))
            case list() as items:
                waiting += items
            case dict() as fields if fields.get("type") in _MEDIA_TYPES:
                tokens += MEDIA_TOKENS
            case dict() as fields:
                tokens += TOKENS_PER_MESSAGE if "role" in fields else 0
                waiting += [*fields, *fields.values()]
            case int() | float():
                tokens += 1
    return tokens - -text // BYTES_PER_TOKEN

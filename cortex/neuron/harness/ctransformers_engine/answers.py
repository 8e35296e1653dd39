"""What was generated → OpenAI's bodies and chunks. Pure but for the clock and an id."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One chosen token, with its place in the answer's text, and what else was likely."""

    token: int
    raw: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Piece:
    """More of the answer `index`. `finish`: it ends here, "stop" or "length"."""

    index: int
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish: str | None = None


@dataclass(slots=True)
class Counts:
    """Tokens of one request, over all its answers, and the time they took."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    began: float = field(default_factory=time.monotonic)
    prefilled: float | None = None

    def usage(self) -> Json:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }

    def timings(self) -> Json:
        """In llama.cpp's words: who watches an answer counts tokens by them."""
        now = time.monotonic()
        prefilled = self.prefilled or now
        return {
            "cache_n": self.cached,
            "prompt_n": self.prompt - self.cached,
            "prompt_ms": round((prefilled - self.began) * 1000, 3),
            "predicted_n": self.completion,
            "predicted_ms": round((now - prefilled) * 1000, 3),
        }


class Shape:
    """The forms of one request's answer. `chat`: chat completions, else completions."""

    def __init__(self, model: str, *, chat: bool) -> None:
        self._chat = chat
        self._kind = "chat.completion" if chat else "text_completion"
        self._head = {
            "id": ("chatcmpl-" if chat else "cmpl-") + uuid.uuid4().hex,
            "created": int(time.time()),
            "model": model,
        }

    def opening(self, index: int) -> Json | None:
        """What a stream says of an answer before its first token; completions say nothing."""
        return self._chunk({"index": index, "delta": {"role": "assistant", "content": ""}}) if self._chat else None

    def chunk(self, piece: Piece) -> Json:
        if not self._chat:
            return self._chunk(self._choice(piece.index, [piece]))
        choice: Json = {"index": piece.index, "delta": {"content": piece.text} if piece.text else {}}
        if piece.logprobs:
            choice["logprobs"] = _chat_logprobs([piece])
        return self._chunk(choice | {"finish_reason": piece.finish})

    def last(self, counts: Counts, *, usage: bool) -> Json | None:
        """After the last answer of a stream."""
        if not usage:
            return None
        kind = "chat.completion.chunk" if self._chat else self._kind
        return self._head | {"object": kind, "choices": [], "usage": counts.usage(), "timings": counts.timings()}

    def whole(self, pieces: Sequence[Sequence[Piece]], counts: Counts) -> Json:
        choices = [self._choice(index, each) for index, each in enumerate(pieces)]
        return self._head | {
            "object": self._kind,
            "choices": choices,
            "usage": counts.usage(),
            "timings": counts.timings(),
        }

    def _chunk(self, choice: Json) -> Json:
        kind = "chat.completion.chunk" if self._chat else self._kind
        return self._head | {"object": kind, "choices": [{"finish_reason": None, "logprobs": None} | choice]}

    def _choice(self, index: int, pieces: Sequence[Piece]) -> Json:
        text = "".join(piece.text for piece in pieces)
        known = any(piece.logprobs for piece in pieces)
        finish = pieces[-1].finish if pieces else None
        if self._chat:
            said: Json = {"message": {"role": "assistant", "content": text, "refusal": None}}
            logprobs = _chat_logprobs(pieces) if known else None
        else:
            said = {"text": text}
            logprobs = _completion_logprobs(pieces) if known else None
        return {"index": index, **said, "logprobs": logprobs, "finish_reason": finish}


def _tokens(pieces: Iterable[Piece]) -> list[TokenLogprob]:
    return [token for piece in pieces for token in piece.logprobs or ()]


def _chat_logprobs(pieces: Iterable[Piece]) -> Json:
    return {
        "content": [
            {
                **_named(token.raw, token.logprob),
                "top_logprobs": [_named(raw, logprob) for _, raw, logprob in token.top],
            }
            for token in _tokens(pieces)
        ],
        "refusal": None,
    }


def _named(raw: bytes, logprob: float) -> Json:
    return {"token": raw.decode(errors="replace"), "bytes": list(raw), "logprob": logprob}


def _completion_logprobs(pieces: Iterable[Piece]) -> Json:
    tokens = _tokens(pieces)
    return {
        "tokens": [token.raw.decode(errors="replace") for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_alternatives(token) for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }


def _alternatives(token: TokenLogprob) -> Json:
    """By their texts, the chosen one in any case; of those that read the same, the most likely."""
    chosen = (token.token, token.raw, token.logprob)
    return {raw.decode(errors="replace"): logprob for _, raw, logprob in reversed([*token.top, chosen])}

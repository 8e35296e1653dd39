"""A request's body → what is to be generated. Bodies were checked by the neuron; what only the model knows is checked here. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cortex import errors
from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.harness.ctransformers_engine.sampling import Sampling

Json = Mapping[str, Any]
_TOKEN = re.compile(r"-?[0-9]{1,20}")
_NEVER = 1000.0  # on a scale on which 100 is "always"; false means never


@dataclass(frozen=True, slots=True)
class Asked:
    """What both kinds of request have in common. max_tokens None: as many as the engine gives."""

    sampling: Sampling
    stops: tuple[str, ...]
    max_tokens: int | None
    count: int


def asked(body: Json, *, vocab_size: int, chat: bool) -> Asked:
    """Raises CortexError (400) for a token that the vocabulary has not."""
    bound = _first(body, "max_completion_tokens", "max_tokens", "n_predict")
    stop = body.get("stop")
    return Asked(
        sampling=_sampling(body, vocab_size, chat=chat),
        stops=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        max_tokens=bound if bound is not None and bound >= 0 else None,
        count=body.get("n") or 1,
    )


def _first(body: Json, *names: str) -> Any:
    return next((value for name in names if (value := body.get(name)) is not None), None)


def _sampling(body: Json, vocab_size: int, *, chat: bool) -> Sampling:
    def number(default: float, *names: str) -> float:
        value = _first(body, *names)
        return default if value is None else float(value)

    return Sampling(
        temperature=number(1.0, "temperature"),
        top_p=number(1.0, "top_p"),
        top_k=max(0, int(number(0, "top_k"))),
        min_p=number(0.0, "min_p"),
        repetition_penalty=number(1.0, "repetition_penalty", "repeat_penalty"),
        frequency_penalty=number(0.0, "frequency_penalty"),
        presence_penalty=number(0.0, "presence_penalty"),
        logit_bias=_bias(body.get("logit_bias"), vocab_size),
        logprobs=_logprobs(body, chat=chat),
        seed=body.get("seed"),
    )


def _logprobs(body: Json, *, chat: bool) -> int | None:
    """A chat says whether and how many, a completion how many."""
    if chat:
        return int(body.get("top_logprobs") or 0) if body.get("logprobs") else None
    return body.get("logprobs")


def _bias(given: Any, vocab_size: int) -> dict[int, float]:
    pairs = given.items() if isinstance(given, Mapping) else given or ()
    bias = {}
    for token, value in pairs:
        if not _TOKEN.fullmatch(str(token)):
            raise errors.invalid_request("'logit_bias' must be an object of token id → number", param="logit_bias")
        _check_token(int(token), vocab_size, "logit_bias")
        bias[int(token)] = -_NEVER if value is False else max(-_NEVER, min(_NEVER, float(value)))
    return bias


def prompts_of(prompt: Any, vocab_size: int) -> Sequence[str | list[int]]:
    """The prompts of a completion: texts or token ids. Raises CortexError (400)."""
    prompts = prompt if isinstance(prompt, list) and all(isinstance(each, str | list) for each in prompt) else [prompt]
    for each in prompts:
        if isinstance(each, str):
            continue
        if not isinstance(each, list) or not all(
            isinstance(number, int) and not isinstance(number, bool) for number in each
        ):
            raise errors.invalid_request(
                "'prompt' must be a string, a list of tokens, or a list of either", param="prompt"
            )
        for number in each:
            _check_token(number, vocab_size, "prompt")
    return prompts


def _check_token(number: int, vocab_size: int, field: str) -> None:
    if not 0 <= number < vocab_size:
        raise errors.invalid_request(
            f"'{field}' names the token {number}, and this model has the tokens 0 to {vocab_size - 1}", param=field
        )


def budget(wanted: int | None, prompt: int, spec: EngineSpec) -> int:
    """Tokens that may be generated. Raises CortexError when the prompt alone fills the context."""
    if prompt >= spec.context:
        raise errors.context_length_exceeded(prompt, spec.context)
    return min(wanted or spec.max_output_tokens, spec.output_cap or spec.context, spec.context - prompt)


def messages_of(body: Json) -> list[dict[str, Any]]:
    """Messages with their text in one piece, as templates of 2023 expect; a developer is a system there."""
    return [
        {
            **message,
            "role": "system" if message["role"] == "developer" else message["role"],
            "content": _text_of(message),
        }
        for message in body["messages"]
    ]


def _text_of(message: Json) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(part.get("text") or "" for part in content)
    return content or ""

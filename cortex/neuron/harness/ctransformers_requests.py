"""What a request to a model of ctransformers' may ask for: what its engine cannot do is refused by name. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.harness import requests as rules
from cortex.neuron.harness import unsupported

MAX_ANSWERS = 16  # one after the other

_GENERATION: Mapping[str, rules.Rule] = {
    "n": rules.integer(1, MAX_ANSWERS),
    "top_k": rules.integer(-1, 2**31 - 1),
    "min_p": rules.number(0, 1),
    "repetition_penalty": rules.number(0.01, 10),
    "repeat_penalty": rules.number(0.01, 10),
}
_CHOOSE = "this model writes text as it comes; for that load it with llama.cpp, or take another model"
_SAMPLING = "its sampling knows temperature, top_k, top_p, min_p, penalties and logit_bias; leave it out"


def _off(*values: Any) -> tuple[Callable[[Any], bool], str]:
    """Values with which a sampler of llama.cpp's does nothing, as its clients send them."""
    return (lambda value: value in values, _SAMPLING)


_CANNOT: unsupported.Table = {
    "tools": (lambda value: value == [], _CHOOSE),
    "tool_choice": (lambda value: value in ("none", "auto"), _CHOOSE),
    "response_format": (lambda value: value == {"type": "text"}, _CHOOSE),
    "grammar": (lambda value: value == "", _CHOOSE),
    "json_schema": (lambda _value: False, _CHOOSE),
    "guided_json": (lambda _value: False, _CHOOSE),
    "echo": (lambda value: value is False, "an answer does not repeat its prompt"),
    "suffix": (lambda value: value == "", "it continues a prompt, and fills no gaps"),
    "typical_p": _off(1),
    "mirostat": _off(0),
    "dry_multiplier": _off(0),
    "xtc_probability": _off(0),
    "top_n_sigma": _off(-1, 0),
    "dynatemp_range": _off(0),
    "ignore_eos": (lambda value: value is False, "leave it out, or ban the tokens that end an answer by logit_bias"),
    "n_probs": (lambda value: value == 0, "ask for logprobs"),
}


def check(path: str, body: dict[str, Any], spec: EngineSpec) -> None:
    """Raises CortexError, which names the field."""
    if path == "/v1/chat/completions":
        _check_chat(body)
    elif path == "/v1/completions":
        _check_completions(body)
    else:
        raise _wrong_modality(path, spec)


def _check_chat(body: dict[str, Any]) -> None:
    rules.check_present(body, "messages")
    unsupported.refuse(body, _CANNOT)
    rules.check_messages(body["messages"], vision=False)
    rules.check_fields(body, {**rules.CHAT, **_GENERATION})
    if body.get("top_logprobs") and not body.get("logprobs"):
        raise rules.wrong("top_logprobs", "accompanied by logprobs = true")
    for index, message in enumerate(body["messages"]):
        _check_message(f"messages[{index}]", message)
    if [message["role"] for message in body["messages"][-2:]] == ["assistant", "assistant"]:
        raise errors.invalid_request(
            "the last two messages are the assistant's: only one can be continued", param="messages"
        )
    unsupported.refuse(body, unsupported.CHAT)


def _check_message(where: str, message: Mapping[str, Any]) -> None:
    if message.get("tool_calls") or message["role"] in ("tool", "function"):
        raise errors.invalid_request(
            f"{where}: this model's engine knows no tools, so there can be no calls of them",
            code="unsupported_parameter",
            param=where,
        )
    if "content" not in message:
        raise errors.invalid_request(f"{where} has no content", param=f"{where}.content")
    content = message["content"]
    for index, part in enumerate(content if isinstance(content, list) else ()):
        if part["type"] != "text" or not isinstance(part.get("text"), str):
            raise rules.wrong(f"{where}.content[{index}]", 'text: {"type": "text", "text": "…"}')


def _check_completions(body: dict[str, Any]) -> None:
    rules.check_present(body, "prompt")
    unsupported.refuse(body, _CANNOT)
    rules.check_fields(body, {**rules.COMPLETIONS, **_GENERATION})
    unsupported.refuse(body, unsupported.COMPLETIONS)


def _wrong_modality(path: str, spec: EngineSpec) -> CortexError:
    return errors.invalid_request(
        f"model '{spec.alias}' serves chat and completions, and not {path}",
        code="wrong_modality",
        param="model",
        status=422,
        model_id=spec.alias,
        suggestion="use a model for it",
    )

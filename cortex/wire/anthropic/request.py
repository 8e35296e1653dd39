"""A Messages request as a chat completions body.

What decides about thinking is the model's chat template, through `enable_thinking`:

    thinking absent                             nothing is sent: the template's own default
    {"type": "disabled"}                        false
    {"type": "enabled", "budget_tokens": n}     true, and `thinking_budget_tokens`, which llama.cpp enforces
    {"type": "adaptive"}                        true; the model decides how long
    output_config.effort                        `reasoning_effort`: low, medium or high (xhigh and max are high)

`max_tokens` is passed as it is: whoever knows the model's context bounds it. `stream_options` asks for the usage that
every Message has to tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cortex.wire.anthropic.content import messages_of
from cortex.wire.anthropic.tools import tools_of
from cortex.wire.chat.deltas import STOP_WORD_WANTED
from cortex.wire.fields import Value, request_of

_EFFORT = {"xhigh": "high", "max": "high"}
_THINKING = ("enabled", "adaptive", "between_tools")


def to_chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """The chat completions body that says the same. Raises CortexError 400 naming the field. `body` is left as it is."""
    request = request_of(body)
    return _prompt(request) | {"max_tokens": request["max_tokens"].integer(1)} | _sampling(request) | _stream(request)


def count_to_chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """A count_tokens request: the chat completions body whose rendered prompt is to be counted."""
    return _prompt(request_of(body))


def _prompt(request: Value) -> dict[str, Any]:
    """All that decides what the model reads."""
    return {
        "model": request["model"].name(),
        "messages": messages_of(request),
        **tools_of(request),
        **_thinking(request["thinking"]),
        **_output(request),
    }


def _thinking(thinking: Value) -> dict[str, Any]:
    if not thinking.given:
        return {}
    kind = thinking["type"].one_of(*_THINKING, "disabled")
    fields: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": kind in _THINKING}}
    if kind == "enabled" and thinking["budget_tokens"].given:
        fields["thinking_budget_tokens"] = thinking["budget_tokens"].integer(1)
    return fields


def _output(request: Value) -> dict[str, Any]:
    config = request["output_config"]
    if not config.given:
        return _format(request["output_format"])  # its name while it was a beta
    effort, fields = config["effort"], _format(config["format"])
    if effort.given:
        level = effort.one_of("low", "medium", "high", "xhigh", "max")
        fields["reasoning_effort"] = _EFFORT.get(level, level)
    return fields


def _format(form: Value) -> dict[str, Any]:
    if not form.given:
        return {}
    form["type"].one_of("json_schema")
    schema = {"name": "output", "schema": form["schema"].an_object(), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _sampling(request: Value) -> dict[str, Any]:
    fields: dict[str, Any] = {name: request[name].number() for name in ("temperature", "top_p") if request[name].given}
    if request["top_k"].given:
        fields["top_k"] = request["top_k"].integer(0)
    stops = [stop.name() for stop in request["stop_sequences"]]
    return fields | ({"stop": stops, **STOP_WORD_WANTED} if stops else {})


def _stream(request: Value) -> dict[str, Any]:
    if not request["stream"].given or not request["stream"].flag():
        return {"stream": False}
    return {"stream": True, "stream_options": {"include_usage": True}}

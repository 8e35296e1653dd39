"""A Responses request as a chat completions body.

`reasoning.effort` is passed as `reasoning_effort` (minimal is low; xhigh and max are high); `none` turns thinking off in
the chat template. `previous_response_id` and `store` are for `memory`. `max_output_tokens` is passed as it is: whoever knows the model's context bounds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cortex.wire.fields import Value, request_of
from cortex.wire.responses.items import messages_of
from cortex.wire.responses.memory import NOT_STORED
from cortex.wire.responses.tools import tools_of

_EFFORT = {"minimal": "low", "xhigh": "high", "max": "high"}
_NUMBERS = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repeat_penalty")
_INTEGERS = {"top_k": 0, "seed": -(2**63)}


def to_chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """The chat completions body that says the same. Raises CortexError 400 naming the field. `body` is left as it is."""
    request = request_of(body)
    _refuse(request)
    return {
        "model": request["model"].name(),
        "messages": messages_of(request),
        **tools_of(request),
        **_reasoning(request["reasoning"]),
        **_format(request["text"]),
        **_sampling(request),
        **_logprobs(request),
        **_stream(request["stream"]),
    }


def _refuse(request: Value) -> None:
    """What no store of ours has."""
    if request["conversation"].given:
        raise request["conversation"].refused(
            "conversations are not stored here: send the whole history as 'input'", code=NOT_STORED
        )
    if request["background"].given and request["background"].flag():
        raise request["background"].refused("nothing is answered in the background here: stream the answer instead")
    if request["prompt"].given:
        raise request["prompt"].refused("prompt templates are not stored here: send 'instructions' and 'input'")


def _reasoning(reasoning: Value) -> dict[str, Any]:
    if not reasoning.given or not reasoning["effort"].given:
        return {}
    effort = reasoning["effort"].one_of("none", "minimal", "low", "medium", "high", "xhigh", "max")
    if effort == "none":
        return {"chat_template_kwargs": {"enable_thinking": False}}
    return {"reasoning_effort": _EFFORT.get(effort, effort)}


def _format(text: Value) -> dict[str, Any]:
    if not text.given or not text["format"].given:
        return {}
    form = text["format"]
    kind = form["type"].one_of("text", "json_object", "json_schema")
    if kind != "json_schema":
        return {} if kind == "text" else {"response_format": {"type": kind}}
    schema: dict[str, Any] = {"name": form["name"].name(), "schema": form["schema"].an_object()}
    if form["description"].given:
        schema["description"] = form["description"].text()
    if form["strict"].given:
        schema["strict"] = form["strict"].flag()
    return {"response_format": {"type": kind, "json_schema": schema}}


def _sampling(request: Value) -> dict[str, Any]:
    fields: dict[str, Any] = {name: request[name].number() for name in _NUMBERS if request[name].given}
    fields |= {name: request[name].integer(low) for name, low in _INTEGERS.items() if request[name].given}
    if request["max_output_tokens"].given:
        fields["max_tokens"] = request["max_output_tokens"].integer(1)
    if request["stop"].given:
        fields["stop"] = request["stop"].raw
    return fields


def _logprobs(request: Value) -> dict[str, Any]:
    top = request["top_logprobs"]
    wanted = any(each.raw == "message.output_text.logprobs" for each in request["include"])
    if not wanted and not top.raw:
        return {}
    return {"logprobs": True, "top_logprobs": top.integer(0) if top.given else 0}


def _stream(stream: Value) -> dict[str, Any]:
    if not stream.given or not stream.flag():
        return {"stream": False}
    return {"stream": True, "stream_options": {"include_usage": True}}

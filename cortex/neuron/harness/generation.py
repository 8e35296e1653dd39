"""A chat completion or completion → what llama.cpp is asked, and how its stream becomes the answer. Pure.

The requests were checked (`requests`): every field has its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cortex.neuron.harness.answers.completions import Echo, LegacyLogprobs
from cortex.neuron.harness.answers.events import Fail, Json, Reader, Step
from cortex.neuron.harness.answers.steps import top_logprobs, without_role
from cortex.neuron.harness.answers.stream import StreamAnswer
from cortex.neuron.harness.answers.tool_choice import ForcedCalls, forced_tools, forcing, without_tools
from cortex.neuron.harness.answers.usage import UsageSum
from cortex.neuron.harness.answers.whole import ChatChoice, Choice, TextChoice, WholeAnswer
from cortex.neuron.harness.base import Prepared, Translation


def chat(body: Json, fail: Fail) -> Prepared:
    """`fail`: an engine's error object → the client's error."""
    steps: list[Step] = [without_role]
    sent = _as_stream(body)
    if body.get("logprobs"):
        steps.append(top_logprobs(body.get("top_logprobs") or 0))
        sent = _with_probabilities(sent, body.get("top_logprobs") or 0)
    if tools := forced_tools(body):
        steps.append(ForcedCalls())
        sent = forcing(sent, tools)
    elif body.get("tool_choice") == "none":
        sent = without_tools(sent)
    count = body.get("n") or 1
    reader, usage = Reader(steps, fail), UsageSum(count, count)
    if not body.get("stream"):
        choices: list[Choice] = [ChatChoice() for _ in range(count)]
        return Prepared(sent, WholeAnswer(reader, choices, kind="chat.completion", usage=usage))
    plain = count == len(steps) == 1
    return Prepared(sent, _stream(body, reader, roles=count, plain=plain, usage=usage))


def completions(body: Json, fail: Fail) -> Prepared:
    sent = _as_stream(body)
    prompts, count = prompts_of(body["prompt"]), body.get("n") or 1
    total = count * len(prompts)
    steps: list[Step] = []
    if body.get("echo"):
        steps.append(Echo(prompts, count))
    if (top := body.get("logprobs")) is not None:
        steps.append(LegacyLogprobs(top))
        sent = _with_probabilities(sent, top)
    reader, usage = Reader(steps, fail), UsageSum(total, count)
    if not body.get("stream"):
        choices: list[Choice] = [TextChoice() for _ in range(total)]
        return Prepared(sent, WholeAnswer(reader, choices, kind="text_completion", usage=usage))
    return Prepared(sent, _stream(body, reader, roles=0, plain=total == 1 and not steps, usage=usage))


def prompts_of(prompt: Any) -> list[Any]:
    """The prompts of a completion, each text or tokens (which may be mixed). A flat list with tokens in it is one prompt."""
    if isinstance(prompt, list) and all(isinstance(each, str | list) for each in prompt):
        return prompt
    return [prompt]


def _as_stream(body: Json) -> Json:
    """Usage is told where somebody reads it; `return_progress` makes the engine write, and so notice who left, in a prefill."""
    sent = body | {"stream": True, "return_progress": True}
    if not body.get("stream"):
        sent["stream_options"] = {"include_usage": True}
    return sent


def _with_probabilities(body: Json, top: int) -> Json:
    """In the engine's own words: beside tools it refuses OpenAI's, and it tells nothing for `top_logprobs: 0`."""
    kept = {field: value for field, value in body.items() if field not in ("logprobs", "top_logprobs")}
    return kept | {"n_probs": max(1, top)}


def _stream(body: Mapping[str, Any], reader: Reader, *, roles: int, plain: bool, usage: UsageSum) -> Translation:
    asked = (body.get("stream_options") or {}).get("include_usage") is True
    return StreamAnswer(reader, roles=roles, verbatim=plain, usage=usage, usage_asked=asked)

"""What an engine would mis-handle in a request: small rules in tables, one for each field. Pure.

A rule takes a field's value and answers what would be right, or None when it is. Fields that no rule knows pass.
`null` means "not given", as clients send it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from cortex import errors
from cortex.errors import CortexError

Rule = Callable[[Any], str | None]
Json = Mapping[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_MEDIA = {
    "image_url": "image",
    "input_image": "image",
    "input_audio": "audio",
    "input_video": "video",
    "video_url": "video",
}
_CHOICES = ("none", "auto", "required")
_FORMATS = ("text", "json_object", "json_schema")


def check_fields(body: Json, rules: Mapping[str, Rule]) -> None:
    """Hold every field that is given against its rule. Raises CortexError (400) for the first that is wrong."""
    for field, rule in rules.items():
        value = body.get(field)
        if value is not None and (right := rule(value)):
            raise wrong(field, right)


def wrong(field: str, right: str) -> CortexError:
    return errors.invalid_request(f"'{field}' must be {right}", param=field)


# ---- rules for single values


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def an_object(value: Any) -> str | None:
    return None if isinstance(value, dict) else "an object"


def integer(low: int, high: int) -> Rule:
    def rule(value: Any) -> str | None:
        return None if _is_integer(value) and low <= value <= high else f"an integer from {low} to {high}"

    return rule


def number(low: float, high: float) -> Rule:
    def rule(value: Any) -> str | None:
        return None if _is_number(value) and low <= value <= high else f"a number from {low:g} to {high:g}"

    return rule


def token_bound(value: Any) -> str | None:
    """-1 is what clients of local servers send for "no bound of mine"."""
    return None if _is_integer(value) and (value >= 1 or value == -1) else "an integer of at least 1"


def stop(value: Any) -> str | None:
    texts = value if isinstance(value, list) else [value]
    return None if all(isinstance(each, str) and each for each in texts) else "a non-empty string or a list of them"


def logit_bias(value: Any) -> str | None:
    """llama.cpp takes pairs as well, and `false` for "never"; a value of another kind it would skip."""
    pairs = list(value.items()) if isinstance(value, dict) else value
    if isinstance(pairs, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        return None if all(_is_number(bias) or bias is False for _, bias in pairs) else "an object of token → number"
    return "an object of token → bias"


def stream_options(value: Any) -> str | None:
    asked = value.get("include_usage") if isinstance(value, dict) else "?"
    return None if asked is None or isinstance(asked, bool) else '{"include_usage": true or false}'


def tools(value: Any) -> str | None:
    if isinstance(value, list) and all(_is_tool(each) and _has_schema(each["function"]) for each in value):
        return None
    return 'a list of {"type": "function", "function": {"name": …, "parameters": {…}}}'


def _has_schema(function: Json) -> bool:
    parameters = function.get("parameters")
    return parameters is None or (isinstance(parameters, dict) and parameters.get("type", "object") == "object")


def _is_tool(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("type") != "function":
        return False
    function = value.get("function")
    return isinstance(function, dict) and isinstance(function.get("name"), str) and bool(function["name"])


def tool_choice(value: Any) -> str | None:
    named = isinstance(value, dict) and value.get("type") == "function" and isinstance(value.get("function"), dict)
    if (isinstance(value, str) and value in _CHOICES) or (named and isinstance(value["function"].get("name"), str)):
        return None
    return '"none", "auto", "required" or {"type": "function", "function": {"name": …}}'


def response_format(value: Any) -> str | None:
    if not isinstance(value, dict) or value.get("type") not in _FORMATS:
        return 'an object whose type is "text", "json_object" or "json_schema"'
    if value["type"] != "json_schema":
        return None
    schema = value.get("json_schema")
    if isinstance(schema, dict) and isinstance(schema.get("schema"), dict):
        return None
    return '{"type": "json_schema", "json_schema": {"name": …, "schema": {…}}}'


def prompt(value: Any) -> str | None:
    """Text, tokens, or a list of either; what a list may mix is the engine's matter."""
    if isinstance(value, str) or (isinstance(value, list) and value):
        return None
    return "a string, a list of tokens, or a non-empty list of either"


def embedding_input(value: Any) -> str | None:
    wanted = "a non-empty string, a list of such strings, a list of tokens, or a list of those"
    if isinstance(value, str):
        return None if value else wanted
    if not isinstance(value, list) or not value:
        return wanted
    return None if _one_kind(value) else wanted


def _one_kind(value: list[Any]) -> bool:
    return (
        all(isinstance(each, str) and each for each in value)
        or _are_tokens(value)
        or all(isinstance(each, list) and each and _are_tokens(each) for each in value)
    )


def _are_tokens(value: list[Any]) -> bool:
    return all(_is_integer(each) and each >= 0 for each in value)


def query(value: Any) -> str | None:
    """llama.cpp dies of a pair without a single token."""
    return None if isinstance(value, str) and value else "a non-empty string"


def documents(value: Any) -> str | None:
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return None
    return "a non-empty list of strings"


# ---- the tables


GENERATION: Mapping[str, Rule] = {
    "stream": boolean,
    "stream_options": stream_options,
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "max_tokens": token_bound,
    "max_completion_tokens": token_bound,
    "n_predict": token_bound,
    "stop": stop,
    "seed": integer(-(2**63), 2**63 - 1),
    "logit_bias": logit_bias,
}
CHAT: Mapping[str, Rule] = {
    **GENERATION,
    "logprobs": boolean,
    "top_logprobs": integer(0, 20),
    "tools": tools,
    "tool_choice": tool_choice,
    "parallel_tool_calls": boolean,
    "chat_template_kwargs": an_object,
    "response_format": response_format,
}
COMPLETIONS: Mapping[str, Rule] = {**GENERATION, "prompt": prompt, "echo": boolean, "logprobs": integer(0, 20)}
EMBEDDINGS: Mapping[str, Rule] = {"input": embedding_input}
RERANK: Mapping[str, Rule] = {"query": query, "documents": documents, "top_n": integer(0, 2**31 - 1)}


# ---- rules for several values


def check_present(body: Json, field: str) -> None:
    if body.get(field) is None:
        raise errors.invalid_request(f"missing '{field}' in the request body", param=field)


def check_messages(value: Any, *, vision: bool) -> None:
    """A non-empty list of objects with a known role; content is text, a list of parts, or null. Raises CortexError (400)."""
    if not isinstance(value, list) or not value:
        raise wrong("messages", "a non-empty list of messages")
    for index, message in enumerate(value):
        _check_message(f"messages[{index}]", message, vision=vision)


def _check_message(where: str, message: Any, *, vision: bool) -> None:
    if not isinstance(message, dict):
        raise wrong(where, 'an object such as {"role": "user", "content": "…"}')
    if message.get("role") not in ROLES:
        raise wrong(f"{where}.role", f"one of {', '.join(ROLES)}")
    content = message.get("content")
    if isinstance(content, list):
        _check_parts(f"{where}.content", content, vision=vision)
    elif content is not None and not isinstance(content, str):
        raise wrong(f"{where}.content", "a string or a list of parts")
    if (calls := message.get("tool_calls")) is not None:
        _check_calls(f"{where}.tool_calls", calls)


def _check_parts(where: str, parts: list[Any], *, vision: bool) -> None:
    for index, part in enumerate(parts):
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str):
            raise wrong(f"{where}[{index}]", 'an object with a type, such as {"type": "text", "text": "…"}')
        if kind in _MEDIA and not vision:
            raise errors.invalid_request(
                f"{where}[{index}]: this model takes no {_MEDIA[kind]} input; it was loaded without a projector (mmproj)",
                code="vision_unsupported",
                param=f"{where}[{index}]",
                suggestion="use a model that lists the capability 'vision'",
            )
        if kind in _MEDIA:
            _check_media(f"{where}[{index}]", kind, part)


def _check_media(where: str, kind: str, part: Json) -> None:
    """An engine would fetch what a URL names, from wherever this host can reach, and open files: it is shown data alone."""
    if not kind.endswith("_url"):
        return
    holder = part.get(kind)
    url = holder.get("url") if isinstance(holder, dict) else holder
    if not isinstance(url, str) or not url.startswith("data:"):
        raise errors.invalid_request(
            f"{where}.{kind}: it must be a data URL (data:image/png;base64,…); nothing is fetched here, "
            "and a gateway fetches images only with '[images] allow_urls = true'",
            code="invalid_image_url",
            param=f"{where}.{kind}",
        )


def _check_calls(where: str, calls: Any) -> None:
    if not isinstance(calls, list) or not all(_is_tool(call) for call in calls):
        raise wrong(where, 'a list of {"id": …, "type": "function", "function": {"name": …, "arguments": …}}')


def check_tools(value: Any) -> None:
    """Raises CortexError (400) for a tool that is none of functions: those of a vendor's own servers, and free-form ones."""
    for index, tool in enumerate(value if isinstance(value, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "function":
            raise errors.invalid_request(
                f"tools[{index}]: a tool of type '{kind}' cannot be called by a model here, only functions can",
                code="unsupported_tool",
                param=f"tools[{index}].type",
            )


def check_tool_choice(body: Json) -> None:
    """A tool that must be called has to be among those that may be, and its call is the whole answer."""
    choice = body.get("tool_choice")
    known = [tool["function"]["name"] for tool in body.get("tools") or ()]
    if isinstance(choice, dict) and (name := choice["function"]["name"]) not in known:
        raise wrong("tool_choice", f"a tool of this request, and '{name}' is not among {known}")
    if choice == "required" and not known:
        raise wrong("tools", "given when tool_choice is 'required'")
    if isinstance(choice, dict) or choice == "required":
        for field in ("grammar", "json_schema"):
            if body.get(field) is not None:
                raise wrong(field, "absent when a tool must be called: the call has a grammar of its own")


def check_echo(body: Json, prompts: list[Any]) -> None:
    """Raises CortexError (400): the prompt is only known as it was sent, and not with its tokens' probabilities."""
    if body.get("echo") and not all(isinstance(each, str) for each in prompts):
        raise wrong("echo", "false where the prompt is not text")
    if body.get("echo") and body.get("logprobs") is not None:
        raise wrong("echo", "false where logprobs are asked for: those of a prompt's own tokens are not known")

"""Ollama's requests as OpenAI bodies. Every reader raises CortexError 400 naming the field, and leaves its input as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from cortex.wire.chat.history import image_part, text_part
from cortex.wire.fields import Value, request_of
from cortex.wire.ollama.keep_alive import read_keep_alive

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"

# Options that llama.cpp takes under the same name, beside OpenAI's own.
NUMBERS = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "mirostat_tau",
    "mirostat_eta",
)
INTEGERS = ("top_k", "seed", "repeat_last_n", "mirostat")
_IMAGES = {"/9j/": "jpeg", "R0lGOD": "gif", "UklGR": "webp"}  # how their base64 begins; all else is taken for PNG


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: where it goes, with which body, and how its answer is to look.

    kind        "chat" has a `message`, "generate" a `response`
    keep_alive  idle seconds for which the model stays; 0: it leaves after this answer; -1: it stays; None: nothing was said
    empty       there is nothing to answer: the model is only to be loaded, or to leave
    """

    kind: Literal["chat", "generate"]
    path: str
    body: dict[str, Any]
    keep_alive: float | None = None
    empty: bool = False

    @property
    def model(self) -> str:
        model: str = self.body["model"]
        return model

    @property
    def stream(self) -> bool:
        return self.body["stream"] is True


def read_chat(body: Mapping[str, Any]) -> Asked:
    request = request_of(body)
    chat = _shared(request) | {"messages": _messages(request["messages"])}
    if request["tools"].raw:
        chat["tools"] = [dict(tool.an_object()) for tool in request["tools"]]
    return Asked("chat", CHAT, chat, read_keep_alive(request), empty=not chat["messages"])


def read_generate(body: Mapping[str, Any]) -> Asked:
    """A prompt, as a user's message; as it is with `raw`, and as what is to be filled in with `suffix`."""
    request = request_of(body)
    prompt = request["prompt"].text() if request["prompt"].given else ""
    for field in ("template", "context"):
        if request[field].raw:
            raise request[field].refused("this is not done here: use /api/chat, or 'raw' with a prompt that is whole")
    raw = request["raw"].flag() if request["raw"].given else False
    if raw or request["suffix"].raw:
        filled = {"suffix": request["suffix"].text()} if request["suffix"].raw else {}
        completion = {**_shared(request), "prompt": prompt, **filled}
        return Asked("generate", COMPLETIONS, completion, read_keep_alive(request), empty=not prompt)
    system = [{"role": "system", "content": request["system"].text()}] if request["system"].raw else []
    user = {"role": "user", "content": _content(prompt, request["images"])}
    chat = _shared(request) | {"messages": [*system, user]}
    return Asked("generate", CHAT, chat, read_keep_alive(request), empty=not prompt)


def read_embed(body: Mapping[str, Any], field: str) -> tuple[dict[str, Any], float | None]:
    """An embeddings body, and its keep_alive; `field` has the texts: `input`, and `prompt` in the older form."""
    request = request_of(body)
    texts = request[field]
    if not isinstance(texts.raw, str):
        for text in texts:
            text.text()
        if not texts.raw:
            raise texts.wrong("a string or an array of strings")
    embed: dict[str, Any] = {"model": _model(request), "input": texts.raw, "encoding_format": "float"}
    if request["dimensions"].given:
        embed["dimensions"] = request["dimensions"].integer(1)
    return embed, read_keep_alive(request)


def _shared(request: Value) -> dict[str, Any]:
    stream = request["stream"].flag() if request["stream"].given else True
    usage = {"stream_options": {"include_usage": True}} if stream else {}
    return {
        "model": _model(request),
        "stream": stream,
        **usage,
        **_thinking(request["think"]),
        **_format(request["format"]),
        **_options(request["options"]),
    }


def _model(request: Value) -> str:
    """Its name; the tag `latest` is Ollama's word for none."""
    return request["model"].name().removesuffix(":latest") or request["model"].name()


def _thinking(think: Value) -> dict[str, Any]:
    if not think.given:
        return {}
    if isinstance(think.raw, bool):
        return {"chat_template_kwargs": {"enable_thinking": think.raw}}
    return {"reasoning_effort": think.one_of("low", "medium", "high")}


def _format(form: Value) -> dict[str, Any]:
    if not form.raw:
        return {}
    if isinstance(form.raw, str):
        form.one_of("json")
        return {"response_format": {"type": "json_object"}}
    schema = {"name": "output", "schema": form.an_object(), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _options(options: Value) -> dict[str, Any]:
    if not options.given:
        return {}
    fields: dict[str, Any] = {name: options[name].number() for name in NUMBERS if options[name].given}
    fields |= {name: options[name].integer(-(2**63)) for name in INTEGERS if options[name].given}
    if (bound := options["num_predict"]).given and bound.integer(-2) > 0:  # -1 and -2: none of its own
        fields["max_tokens"] = bound.raw
    stops = [options["stop"]] if isinstance(options["stop"].raw, str) else list(options["stop"])
    return fields | ({"stop": [stop.name() for stop in stops]} if stops else {})


# ---- messages


def _messages(messages: Value) -> list[dict[str, Any]]:
    """Calls have no ids in this API: results answer the calls before them, by name if they say one, else in their order."""
    found: list[dict[str, Any]] = []
    waiting: list[tuple[str, str]] = []  # (id, function) of calls without a result
    for number, message in enumerate(messages):
        role = message["role"].one_of("system", "user", "assistant", "tool")
        content = _content(message["content"].text() if message["content"].given else "", message["images"])
        said: dict[str, Any] = {"role": role, "content": content}
        if message["thinking"].raw:
            said["reasoning_content"] = message["thinking"].text()
        if calls := list(_calls(message["tool_calls"], number)):
            said["tool_calls"] = calls
            said["content"] = content or None
            waiting = [(call["id"], call["function"]["name"]) for call in calls]
        if role == "tool":
            said["tool_call_id"] = _answered(message, waiting)
        found.append(said)
    return found


def _calls(calls: Value, number: int) -> Iterator[dict[str, Any]]:
    for index, call in enumerate(calls):
        function = call["function"]
        arguments = orjson.dumps(function["arguments"].an_object()).decode()
        yield {
            "id": call["id"].name() if call["id"].raw else f"call_{number}_{index}",
            "type": "function",
            "function": {"name": function["name"].name(), "arguments": arguments},
        }


def _answered(message: Value, waiting: list[tuple[str, str]]) -> str:
    if message["tool_call_id"].raw:
        return message["tool_call_id"].name()
    name = message["tool_name"].raw or message["name"].raw
    found = next((each for each in waiting if each[1] == name), waiting[0] if waiting else None)
    if found is None:
        return "call"
    waiting.remove(found)
    return found[0]


def _content(text: str, images: Value) -> str | list[dict[str, Any]]:
    pictures = [image_part(_data_url(image.name())) for image in images]
    return [text_part(text), *pictures] if pictures else text


def _data_url(encoded: str) -> str:
    kind = next((kind for start, kind in _IMAGES.items() if encoded.startswith(start)), "png")
    return f"data:image/{kind};base64,{encoded}"

"""The messages of a Messages request: system texts, turns, and the blocks that they are made of.

A message of role `system` before the first turn joins the system text. A later one becomes, where it stands, a block of
the user's turn between <system-reminder> tags: moved to the front it would change the prompt's beginning, and with it
void the prompt cache, and many chat templates refuse it in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import orjson

from cortex.wire.anthropic.ids import engine_id
from cortex.wire.chat.history import History, Message, Part, ToolCall, image_part, text_part
from cortex.wire.fields import Value

_BILLING_HEADER = "x-anthropic-billing-header:"


def messages_of(request: Value) -> list[Message]:
    """The chat messages of `system` and `messages`."""
    system = list(_system(request["system"]))
    history = History(join_users=True)
    messages = request["messages"]
    if not messages.given or messages.raw == []:
        raise messages.wrong("an array of at least one message")
    for message in messages:
        role = message["role"].one_of("user", "assistant", "system")
        if role == "user":
            _user(history, message["content"])
        elif role == "assistant":
            _assistant(history, message["content"])
        elif history:
            history.user([text_part(f"<system-reminder>\n{text}\n</system-reminder>") for text in _texts(message)])
        else:
            system += _texts(message)
    return history.messages(system)


def _blocks(content: Value) -> Iterator[tuple[str, Value]]:
    """(type, block) of a content that is a string or an array of blocks."""
    if isinstance(content.raw, str):
        yield "text", Value({"type": "text", "text": content.raw}, content.where)
        return
    if not isinstance(content.raw, list):
        raise content.wrong("a string or an array of content blocks")
    for block in content:
        yield block["type"].text(), block


def _texts(message: Value) -> list[str]:
    return [block["text"].text() for kind, block in _blocks(message["content"]) if kind == "text"]


def _system(system: Value) -> Iterator[str]:
    """Its texts without the billing header, which is the first line of the first."""
    if not system.given:
        return
    for index, (kind, block) in enumerate(_blocks(system)):
        if kind != "text":
            raise block["type"].wrong('"text" in a system prompt')
        text = block["text"].text()
        if index == 0 and text.startswith(_BILLING_HEADER):
            text = text.partition("\n")[2]
        if text:
            yield text


# ---- turns


def _user(history: History, content: Value) -> None:
    """Tool results come first: they answer the assistant's turn before."""
    blocks = list(_blocks(content))
    for kind, block in blocks:
        if kind == "tool_result":
            history.tool(engine_id(block["tool_use_id"].name()), _result_parts(block))
    history.user([part for kind, block in blocks for part in _parts(kind, block)])


def _result_parts(result: Value) -> list[Part]:
    content, is_error = result["content"], result["is_error"]
    parts = [part for kind, block in _blocks(content) for part in _parts(kind, block)] if content.given else []
    if not is_error.given or not is_error.flag():
        return parts
    if parts and parts[0]["type"] == "text":  # chat completions have no such flag: the model has to read it
        return [text_part("Error: " + parts[0]["text"]), *parts[1:]]
    return [text_part("Error"), *parts]


def _assistant(history: History, content: Value) -> None:
    texts, calls = [], []
    for kind, block in _blocks(content):
        if kind == "text":
            texts.append(block["text"].text())
        elif kind == "thinking":
            history.reasoning(block["thinking"].text())
        elif kind == "tool_use":
            calls.append(_tool_call(block))
    history.assistant(texts, calls)


def _tool_call(block: Value) -> ToolCall:
    arguments = orjson.dumps(block["input"].an_object()).decode()
    return ToolCall(id=engine_id(block["id"].name()), name=block["name"].name(), arguments=arguments)


# ---- blocks that hold content


def _parts(kind: str, block: Value) -> list[Part]:
    """The parts of a block; none for a type that is not known."""
    return _CONTENT[kind](block) if kind in _CONTENT else []


def _text(block: Value) -> list[Part]:
    return [text_part(block["text"].text())]


def _image(block: Value) -> list[Part]:
    source = block["source"]
    kind = source["type"].one_of("base64", "url")
    if kind == "url":
        return [image_part(source["url"].name())]
    return [image_part(f"data:{source['media_type'].name()};base64,{source['data'].name()}")]


def _document(block: Value) -> list[Part]:
    source = block["source"]
    kind = source["type"].text()
    head = [text_part(block[field].text()) for field in ("title", "context") if block[field].given]
    if kind == "text":
        return [*head, text_part(source["data"].text())]
    if kind == "content":
        return [*head, *_inner(source["content"])]
    raise source.refused(f"a document of source type '{kind}' (a PDF or a file) cannot be read here; send its text")


def _search_result(block: Value) -> list[Part]:
    head = [text_part(block[field].text()) for field in ("title", "source")]
    return [*head, *_inner(block["content"])]


def _inner(content: Value) -> list[Part]:
    """Text and images inside a block: nothing nests deeper."""
    return [part for kind, block in _blocks(content) if kind in ("text", "image") for part in _parts(kind, block)]


def _tool_reference(block: Value) -> list[Part]:
    return [text_part(block["tool_name"].text())]


_CONTENT: Mapping[str, Callable[[Value], list[Part]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "tool_reference": _tool_reference,
}

"""The input of a Responses request as chat messages.

`instructions` and every developer and system message make one leading system message, in their order: chat templates
take no other. Calls, reasoning and text of one assistant turn are one message, whatever their order as items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from cortex.wire.chat.history import History, Message, Part, ToolCall, image_part, text_part
from cortex.wire.fields import Value
from cortex.wire.responses.memory import NOT_STORED
from cortex.wire.responses.tools import seen_name


def messages_of(request: Value) -> list[Message]:
    """The chat messages of `instructions` and `input`. There is always one, for clients that probe with nothing."""
    system = [request["instructions"].text()] if request["instructions"].raw else []
    history = History(join_users=False)
    for kind, item in _items(request["input"]):
        if kind == "message" and item["role"].raw in ("system", "developer"):
            system += _texts(item["content"])
        elif kind in _ITEMS:
            _ITEMS[kind](history, item)
    return history.messages(system) or [{"role": "user", "content": ""}]


def _items(given: Value) -> Iterator[tuple[str, Value]]:
    """(type, item); a message may leave its type out. A string is a user's message."""
    if isinstance(given.raw, str):
        yield "message", Value({"role": "user", "content": given.raw}, given.where)
        return
    if given.given and not isinstance(given.raw, list):
        raise given.wrong("a string or an array of items")
    for item in given:
        yield (item["type"].text() if item["type"].given or not item["role"].given else "message"), item


# ---- items


def _message(history: History, item: Value) -> None:
    if item["role"].one_of("user", "assistant", "system", "developer") == "user":
        history.user(_parts(item["content"]))
    else:
        history.assistant(_texts(item["content"]))


def _function_call(history: History, item: Value) -> None:
    call = ToolCall(id=item["call_id"].name(), name=seen_name(item), arguments=item["arguments"].text() or "{}")
    history.assistant(calls=[call])


def _function_call_output(history: History, item: Value) -> None:
    history.tool(item["call_id"].name(), _parts(item["output"]))


def _reasoning(history: History, item: Value) -> None:
    """Its text, else its summary; what is only encrypted is not ours to read."""
    for field in ("content", "summary"):
        if texts := [part["text"].text() for part in item[field] if part["text"].given]:
            history.reasoning("\n".join(texts))
            return


def _reference(_history: History, item: Value) -> None:
    raise item.refused("items are not stored here: send the item itself", code=NOT_STORED)


_ITEMS: Mapping[str, Callable[[History, Value], None]] = {
    "message": _message,
    "function_call": _function_call,
    "function_call_output": _function_call_output,
    "reasoning": _reasoning,
    "item_reference": _reference,
}


# ---- content


def _parts(content: Value) -> list[Part]:
    """Text and images of a string or an array of parts; unknown parts are skipped."""
    if isinstance(content.raw, str):
        return [text_part(content.raw)]
    if not isinstance(content.raw, list):
        raise content.wrong("a string or an array of content parts")
    return [part for each in content for part in _part(each)]


def _part(part: Value) -> list[Part]:
    match part["type"].text():
        case "input_text" | "output_text" | "text":
            return [text_part(part["text"].text())]
        case "refusal":
            return [text_part(part["refusal"].text())]
        case "input_image":
            return [_image(part)]
        case "input_file" | "input_audio" as kind:
            raise part.refused(f"'{kind}' cannot be read here; send its text")
        case _:
            return []


def _image(part: Value) -> Part:
    if part["file_id"].given and not part["image_url"].given:
        raise part["file_id"].refused(
            "files are not stored here: send the image as 'image_url', a data URL for example"
        )
    detail = part["detail"]
    return image_part(part["image_url"].name(), detail.text() if detail.given else None)


def _texts(content: Value) -> list[str]:
    return [part["text"] for part in _parts(content) if part["type"] == "text"]

"""The messages of a chat completions request, built turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Part = dict[str, Any]
Message = dict[str, Any]

PARAGRAPH = "\n\n"  # between system texts that become one message
_LINE = "\n"  # between the text parts of one message, as llama.cpp joins them


def text_part(text: str) -> Part:
    return {"type": "text", "text": text}


def image_part(url: str, detail: str | None = None) -> Part:
    return {"type": "image_url", "image_url": {"url": url} if detail is None else {"url": url, "detail": detail}}


def content_of(parts: Sequence[Part]) -> str | list[Part]:
    """A string where there is only text: not every chat template takes a list."""
    if all(part["type"] == "text" for part in parts):
        return _LINE.join(part["text"] for part in parts)
    return list(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the model made. `arguments` is JSON text."""

    id: str
    name: str
    arguments: str

    def rendered(self) -> dict[str, Any]:
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


class History:
    """Messages in their order. What the assistant says in a row is one message; `join_users`: the same holds for the user."""

    def __init__(self, *, join_users: bool) -> None:
        self._join_users = join_users
        self._messages: list[Message] = []
        self._user_parts: list[Part] = []  # of the last message, while it is the user's
        self._reasoning = ""  # until the assistant's message that it led to

    def __len__(self) -> int:
        return len(self._messages)

    def user(self, parts: Sequence[Part]) -> None:
        if not parts:
            return
        self._reasoning = ""
        if self._join_users and self._last("user") is not None:
            self._messages.pop()
            self._user_parts += parts
        else:
            self._user_parts = list(parts)
        self._messages.append({"role": "user", "content": content_of(self._user_parts)})

    def tool(self, call_id: str, parts: Sequence[Part]) -> None:
        """What a tool answered."""
        self._reasoning = ""
        self._messages.append({"role": "tool", "tool_call_id": call_id, "content": content_of(parts)})

    def reasoning(self, text: str) -> None:
        """What the assistant thought before its next message; alone it is none."""
        self._reasoning = _joined(self._reasoning, text)

    def assistant(self, texts: Sequence[str] = (), calls: Sequence[ToolCall] = ()) -> None:
        if not (texts or calls or self._reasoning):
            return
        message = self._last("assistant")
        if message is None:
            self._messages.append(message := {"role": "assistant", "content": None})
        if self._reasoning:
            message["reasoning_content"] = _joined(message.get("reasoning_content", ""), self._reasoning)
            self._reasoning = ""
        if texts:
            message["content"] = _joined(message["content"] or "", _LINE.join(texts))
        if calls:
            message.setdefault("tool_calls", []).extend(call.rendered() for call in calls)

    def _last(self, role: str) -> Message | None:
        last = self._messages[-1] if self._messages else None
        return last if last is not None and last["role"] == role else None

    def messages(self, system: Sequence[str]) -> list[Message]:
        """All of them, after one system message that has every text of `system`."""
        for message in self._messages:
            if message["content"] is None and "tool_calls" not in message:
                message["content"] = ""
        head = [{"role": "system", "content": PARAGRAPH.join(system)}] if system else []
        return [*head, *self._messages]


def _joined(before: str, text: str) -> str:
    return f"{before}{_LINE}{text}" if before else text

"""The messages of a chat completions request, built turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class _Turn:
    """A message before it is rendered: joined at its end once, however many pieces it has."""

    role: str
    parts: list[Part] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    call_id: str | None = None

    def rendered(self) -> Message:
        only_calls = self.calls and not self.parts
        message: Message = {"role": self.role, "content": None if only_calls else content_of(self.parts)}
        if self.call_id is not None:
            message["tool_call_id"] = self.call_id
        if self.reasoning:
            message["reasoning_content"] = _LINE.join(self.reasoning)
        if self.calls:
            message["tool_calls"] = [call.rendered() for call in self.calls]
        return message


class History:
    """Messages in their order. What the assistant says in a row is one message; `join_users`: the same holds for the user."""

    def __init__(self, *, join_users: bool) -> None:
        self._join_users = join_users
        self._turns: list[_Turn] = []
        self._reasoning: list[str] = []  # until the assistant's message that it led to

    def __len__(self) -> int:
        return len(self._turns)

    def user(self, parts: Sequence[Part]) -> None:
        if parts:
            self._turn("user", join=self._join_users).parts += parts

    def tool(self, call_id: str, parts: Sequence[Part]) -> None:
        """What a tool answered."""
        turn = self._turn("tool", join=False)
        turn.call_id = call_id
        turn.parts += parts

    def reasoning(self, text: str) -> None:
        """What the assistant thought before its next message; alone it is none."""
        self._reasoning.append(text)

    def assistant(self, texts: Sequence[str] = (), calls: Sequence[ToolCall] = ()) -> None:
        if not (texts or calls or self._reasoning):
            return
        reasoning = self._reasoning
        turn = self._turn("assistant", join=True)
        turn.reasoning += reasoning
        turn.parts += map(text_part, texts)
        turn.calls += calls

    def _turn(self, role: str, *, join: bool) -> _Turn:
        """The turn to add to: the last, if it may be joined and is of this role, else a new one."""
        self._reasoning = []
        if not (join and self._turns and self._turns[-1].role == role):
            self._turns.append(_Turn(role))
        return self._turns[-1]

    def messages(self, system: Sequence[str]) -> list[Message]:
        """All of them, after one system message that has every text of `system`."""
        head = [{"role": "system", "content": PARAGRAPH.join(system)}] if system else []
        return [*head, *(turn.rendered() for turn in self._turns)]

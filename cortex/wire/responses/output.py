"""Output items, and the events of their making: added, parts and deltas, done. Whole answers and streams use the same.

An event is a dict without its `sequence_number`, which only the stream knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from cortex.wire.chat.turn import Part

Event = dict[str, Any]
Item = dict[str, Any]
Status = Literal["in_progress", "completed", "incomplete"]


class Output(ABC):
    """One output item while it is made. `index` is its place in the response's output."""

    prefix: str

    def __init__(self, response_id: str, index: int) -> None:
        self.id = f"{self.prefix}_{response_id.removeprefix('resp_')}_{index}"
        self._index = index
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def grow(self, text: str, logprobs: Sequence[Any] = ()) -> list[Event]:
        """Take the next piece."""
        self._pieces.append(text)
        return self._grew(text, logprobs)

    def opened(self) -> list[Event]:
        return [self._at_item("added", "in_progress"), *self._opened()]

    def closed(self, status: Status) -> list[Event]:
        return [*self._closed(), self._at_item("done", status)]

    @abstractmethod
    def item(self, status: Status) -> Item:
        """The item as it stands; one that is being made is empty."""

    @abstractmethod
    def _opened(self) -> list[Event]: ...
    @abstractmethod
    def _grew(self, text: str, logprobs: Sequence[Any]) -> list[Event]: ...
    @abstractmethod
    def _closed(self) -> list[Event]: ...

    def _at_item(self, what: str, status: Status) -> Event:
        return {"type": f"response.output_item.{what}", "output_index": self._index, "item": self.item(status)}

    def _event(self, what: str, **fields: Any) -> Event:
        return {"type": f"response.{what}", "item_id": self.id, "output_index": self._index, **fields}

    def _content_event(self, what: str, **fields: Any) -> Event:
        return self._event(what, content_index=0, **fields)


class MessageOutput(Output):
    """The assistant's text."""

    prefix = "msg"

    def __init__(self, response_id: str, index: int) -> None:
        super().__init__(response_id, index)
        self._logprobs: list[Any] = []

    def item(self, status: Status) -> Item:
        content = [] if status == "in_progress" else [self._part()]
        return {"id": self.id, "type": "message", "status": status, "role": "assistant", "content": content}

    def _part(self) -> dict[str, Any]:
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": list(self._logprobs)}

    def _opened(self) -> list[Event]:
        return [self._content_event("content_part.added", part=self._part())]

    def _grew(self, text: str, logprobs: Sequence[Any]) -> list[Event]:
        self._logprobs += logprobs
        return [self._content_event("output_text.delta", delta=text, logprobs=list(logprobs))]

    def _closed(self) -> list[Event]:
        return [
            self._content_event("output_text.done", text=self.text, logprobs=list(self._logprobs)),
            self._content_event("content_part.done", part=self._part()),
        ]


class ReasoningOutput(Output):
    """What the model thought: as reasoning text, and as its own summary where the client asked for one."""

    prefix = "rs"

    def __init__(self, response_id: str, index: int, *, summary: bool) -> None:
        super().__init__(response_id, index)
        self._summary = summary

    def item(self, status: Status) -> Item:
        said = status != "in_progress"
        return {
            "id": self.id,
            "type": "reasoning",
            "summary": [self._part("summary_text")] if said and self._summary else [],
            "content": [self._part("reasoning_text")] if said else [],
            "encrypted_content": None,
            "status": status,
        }

    def _part(self, kind: str) -> dict[str, Any]:
        return {"type": kind, "text": self.text}

    def _opened(self) -> list[Event]:
        return [
            *self._summary_event("part.added", part=self._part("summary_text")),
            self._content_event("content_part.added", part=self._part("reasoning_text")),
        ]

    def _grew(self, text: str, logprobs: Sequence[Any]) -> list[Event]:  # noqa: ARG002  reasoning has none
        return [
            *self._summary_event("text.delta", delta=text),
            self._content_event("reasoning_text.delta", delta=text),
        ]

    def _closed(self) -> list[Event]:
        return [
            *self._summary_event("text.done", text=self.text),
            *self._summary_event("part.done", part=self._part("summary_text")),
            self._content_event("reasoning_text.done", text=self.text),
            self._content_event("content_part.done", part=self._part("reasoning_text")),
        ]

    def _summary_event(self, what: str, **fields: Any) -> list[Event]:
        return [self._event(f"reasoning_summary_{what}", summary_index=0, **fields)] if self._summary else []


class CallOutput(Output):
    """A function call. Its `call_id` is the engine's own, so that the history needs no translation."""

    prefix = "fc"

    def __init__(self, response_id: str, index: int, part: Part, name: Mapping[str, str]) -> None:
        super().__init__(response_id, index)
        self._call_id = part.id or f"call_{self.id}"
        self._name = name

    def item(self, status: Status) -> Item:
        arguments = "" if status == "in_progress" else self.text
        call = {"call_id": self._call_id, **self._name, "arguments": arguments}
        return {"id": self.id, "type": "function_call", "status": status, **call}

    def _opened(self) -> list[Event]:
        return []

    def _grew(self, text: str, logprobs: Sequence[Any]) -> list[Event]:  # noqa: ARG002  a call has none
        return [self._event("function_call_arguments.delta", delta=text)]

    def _closed(self) -> list[Event]:
        return [self._event("function_call_arguments.done", name=self._name["name"], arguments=self.text)]


class Outputs:
    """Makes the output items of one response, in their order."""

    def __init__(self, response_id: str, *, summary: bool, names: Mapping[str, Mapping[str, str]]) -> None:
        self._response_id = response_id
        self._summary = summary
        self._names = names
        self._count = 0

    def next(self, part: Part) -> Output:
        index, self._count = self._count, self._count + 1
        match part.kind:
            case "text":
                return MessageOutput(self._response_id, index)
            case "reasoning":
                return ReasoningOutput(self._response_id, index, summary=self._summary)
            case "tool":
                name = self._names.get(part.name, {"name": part.name})
                return CallOutput(self._response_id, index, part, name)

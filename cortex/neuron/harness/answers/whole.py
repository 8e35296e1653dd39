"""Chunks → the one answer that the engine itself would have given whole."""

from __future__ import annotations

from typing import Any, Protocol

import orjson

from cortex.errors import CortexError
from cortex.neuron.harness.answers.events import Json, Reader, unfinished
from cortex.neuron.harness.answers.usage import UsageSum


class Choice(Protocol):
    """One choice while it grows."""

    finish_reason: str | None

    def add(self, choice: Json) -> None: ...

    def whole(self, index: int) -> Json: ...


class ChatChoice:
    """A message: texts and arguments are joined, tool calls found by their index."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._texts: dict[str, list[str]] = {"content": []}
        self._calls: dict[int, Json] = {}
        self._logprobs: list[Json] = []

    def add(self, choice: Json) -> None:
        for field, value in choice["delta"].items():
            if field == "tool_calls":
                for call in value:
                    self._add_call(call)
            elif isinstance(value, str):
                self._texts.setdefault(field, []).append(value)
        self._logprobs += (choice.get("logprobs") or {}).get("content") or ()
        self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def _add_call(self, delta: Json) -> None:
        call = self._calls.setdefault(delta["index"], {"type": "function", "function": {"name": "", "arguments": ""}})
        function = delta.get("function") or {}
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
        if delta.get("id"):
            call["id"] = delta["id"]

    def whole(self, index: int) -> Json:
        message: Json = {"role": "assistant", "refusal": None}
        message |= {field: "".join(texts) for field, texts in self._texts.items()}
        if self._calls:
            message["tool_calls"] = [call for _, call in sorted(self._calls.items())]
        logprobs = {"content": self._logprobs, "refusal": None} if self._logprobs else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.finish_reason}


class TextChoice:
    """A legacy completion's text, and its log probabilities: lists side by side."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._texts: list[str] = []
        self._logprobs: dict[str, list[Any]] = {}

    def add(self, choice: Json) -> None:
        self._texts.append(choice.get("text") or "")
        for field, values in (choice.get("logprobs") or {}).items():
            self._logprobs.setdefault(field, []).extend(values)
        self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def whole(self, index: int) -> Json:
        text = "".join(self._texts)
        return {"index": index, "text": text, "logprobs": self._logprobs or None, "finish_reason": self.finish_reason}


class WholeAnswer:
    """A translation (`harness.base`) that has nothing for the client before the end."""

    whole = True

    def __init__(self, reader: Reader, choices: list[Choice], *, kind: str, usage: UsageSum) -> None:
        self.begun = False
        self.failure: CortexError | None = None
        self._reader = reader
        self._choices = choices
        self._kind = kind
        self._usage = usage
        self._envelope: Json = {}
        self._totals: Json = {}

    def push(self, events: bytes) -> bytes:
        try:
            for chunk in self._reader.read(events):
                if not isinstance(chunk, bytes):
                    self._add(chunk)
        except CortexError as error:
            self.failure = error
        return b""

    def end(self) -> bytes:
        if self.failure or not self._totals or any(choice.finish_reason is None for choice in self._choices):
            raise self.failure or unfinished()
        choices = [choice.whole(index) for index, choice in enumerate(self._choices)]
        return orjson.dumps(self._envelope | {"object": self._kind, "choices": choices} | self._totals)

    def _add(self, chunk: Json) -> None:
        usage, choices = chunk.pop("usage", None), chunk.pop("choices")
        for choice in choices:
            self.begun = True
            self._choices[choice["index"]].add(choice)
        if usage and (total := self._usage.add(usage, choices[0]["index"] if choices else 0)):
            self._totals = {"usage": total}
        self._envelope |= chunk  # the last timings are those of the last choice

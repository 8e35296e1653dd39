"""Answers held against a role's OpenAPI document."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

Json = Any


@dataclass(frozen=True)
class Described:
    """One method of one path."""

    method: str
    path: str
    told: Mapping[str, Any]

    @property
    def body(self) -> dict[str, Any] | None:
        """The schema of its JSON."""
        return self.told["requestBody"]["content"]["application/json"]["schema"] if "requestBody" in self.told else None

    @property
    def parameters(self) -> list[dict[str, Any]]:
        return list(self.told.get("parameters", ()))


class Api:
    """A role's document. `complaint` says what is wrong with an answer, or None."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.schemas: Mapping[str, Any] = document["components"]["schemas"]
        self.operations = [
            Described(method.upper(), path, told)
            for path, methods in document["paths"].items()
            for method, told in methods.items()
        ]

    def operation(self, method: str, path: str) -> Described:
        return next(each for each in self.operations if (each.method, each.path) == (method, path))

    def complaint(self, operation: Described, status: int, content_type: str, body: bytes) -> str | None:
        answer = operation.told["responses"].get(str(status))
        if answer is None:
            return f"status {status} is not described"
        if "$ref" in answer:
            answer = self.document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        content = answer.get("content")
        if content is None:
            return f"a body of {len(body)} bytes where none is described" if body else None
        kind = content_type.partition(";")[0].strip()
        if kind not in content:
            return f"content type {content_type!r} is not among {sorted(content)}"
        return self._of_body(content[kind], kind, body)

    def _of_body(self, described: Mapping[str, Any], kind: str, body: bytes) -> str | None:
        try:
            values = list(_values(kind, body))
        except ValueError as error:
            return f"it cannot be read: {error}"
        schema = described.get("x-item-schema") or described["schema"]
        return next((wrong for value in values if (wrong := self.misfit(schema, value))), None)

    def misfit(self, schema: Mapping[str, Any], value: Json) -> str | None:
        """Why a value is none of a schema's, or None."""
        error = best_match(self._validator(json.dumps(schema)).iter_errors(value))
        return None if error is None else f"{error.json_path}: {error.message[:300]}"

    @functools.cache  # noqa: B019  a document lives as long as its test
    def _validator(self, schema: str) -> Any:
        return Draft202012Validator({**json.loads(schema), "components": self.document["components"]})


def _values(kind: str, body: bytes) -> Iterator[Json]:
    text = body.decode()
    if kind == "application/json":
        yield json.loads(text)
    elif kind == "application/x-ndjson":
        yield from (json.loads(line) for line in text.splitlines())
    elif kind == "text/event-stream":
        for line in text.splitlines():
            if line.startswith("data: ") and line != "data: [DONE]":
                yield json.loads(line[6:])
    else:
        yield text

"""A route as OpenAPI tells it, and the document that a role's routes make. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cortex import __version__
from cortex.wire.openapi.schema import TEXT, Schema, Schemas, names_in, ref

Document = dict[str, Any]
Dialect = Literal["OpenAi", "Anthropic", "Ollama"]

JSON, EVENTS, LINES, PLAIN = "application/json", "text/event-stream", "application/x-ndjson", "text/plain"
OCTETS = "application/octet-stream"
# What any request may get, whoever answers it: unreadable JSON, no key, too large a body or head.
_ANY = (400, 401, 403, 413, 431)
# What a request for an answer may get: no such model, what its engine cannot do, a limit, a model or host that is not there.
ASKING = (404, 422, 429, 502, 503, 504)
_REASONS: Mapping[int, str] = {
    400: "The request is wrong, and the error says where",
    401: "No key, or one that nobody knows",
    403: "The key may not do this",
    404: "There is no such thing",
    409: "It is in use, or taken",
    413: "The body is too large",
    416: "The file ends before",
    422: "It is well formed and cannot be done",
    429: "A limit is reached; `Retry-After` says when to try again, if that helps",
    431: "The headers are too large",
    500: "The host's disk cannot be used",
    502: "What stands behind failed",
    503: "Not now; `Retry-After` says when to try again",
    504: "The model sent nothing for too long",
    507: "The disk is full",
}
_REFUSALS = "#/components/responses/"
_RETRY = {"Retry-After": {"description": "Seconds", "schema": {"type": "string", "pattern": "^[0-9]+$"}}}


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer: the component that each of its forms has. `events`: that of each event's data; `lines`: of each line."""

    json: str | None = None
    events: str | None = None
    lines: str | None = None
    plain: bool = False
    octets: bool = False

    def rendered(self) -> Document:
        content: Document = {}
        if self.json:
            content[JSON] = {"schema": ref(self.json)}
        if self.events:
            content[EVENTS] = {"x-item-schema": ref(self.events)}
        if self.lines:
            content[LINES] = {"x-item-schema": ref(self.lines)}
        if self.plain:
            content[PLAIN] = {"schema": TEXT}
        if self.octets:
            content[OCTETS] = {"schema": {}}
        return {"description": "Done", **({"content": content} if content else {})}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path, as OpenAPI writes it (`/jobs/{job_id}`).

    body      the component of its JSON
    answers   by status
    errors    statuses that it may answer besides those that every request may get
    public    it wants no key
    """

    method: str
    path: str
    summary: str
    tag: str
    answers: Mapping[int, Answer]
    body: str | None = None
    parameters: tuple[Schema, ...] = ()
    errors: tuple[int, ...] = ()
    dialect: Dialect = "OpenAi"
    public: bool = False

    def rendered(self) -> Document:
        told: Document = {"summary": self.summary, "tags": [self.tag], "responses": self._responses()}
        if self.parameters:
            told["parameters"] = list(self.parameters)
        if self.body:
            told["requestBody"] = {"required": True, "content": {JSON: {"schema": ref(self.body)}}}
        if self.public:
            told["security"] = []
        return told

    def _responses(self) -> Document:
        return {
            **{str(status): answer.rendered() for status, answer in self.answers.items()},
            **{str(status): self._refusal(status) for status in self.refusals},
        }

    @property
    def refusals(self) -> list[int]:
        return sorted({*_ANY, *self.errors})

    def _refusal(self, status: int) -> Document:
        if self.method == "HEAD":
            return {"description": _REASONS[status]}
        return {"$ref": f"{_REFUSALS}{self.dialect}{status}"}


def _refusal(dialect: Dialect, status: int) -> Document:
    return {
        "description": _REASONS[status],
        **({"headers": _RETRY} if status in (429, 503) else {}),
        "content": {JSON: {"schema": ref(f"{dialect}Error")}},
    }


def parameter(where: Literal["path", "query", "header"], name: str, schema: Schema, description: str = "") -> Schema:
    said = {"description": description} if description else {}
    return {"name": name, "in": where, "required": where == "path", "schema": schema, **said}


def document(role: str, description: str, operations: Iterable[Operation], schemas: Schemas, keys: Schemas) -> Document:
    """The OpenAPI document of a role. `schemas`: the components to choose from; `keys`: how a client says who it is.

    Who needs no key needs none: the configuration says whether one is wanted.
    """
    paths: Document = {}
    refusals: Document = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = operation.rendered()
        refusals |= {f"{operation.dialect}{each}": _refusal(operation.dialect, each) for each in operation.refusals}
    used = _used([paths, refusals], schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": f"cortex {role}", "version": __version__, "description": description},
        "paths": paths,
        "components": {"schemas": used, "responses": refusals, "securitySchemes": dict(keys)},
        "security": [{}, *({name: []} for name in keys)],
    }


def _used(by: list[Document], schemas: Schemas) -> Document:
    """The components that are referred to, and those that they refer to."""
    found: Document = {}
    wanted = list(names_in(by))
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = schemas[name]
            wanted += names_in(schemas[name])
    return dict(sorted(found.items()))

"""JSON Schema in few words. A schema is a dict; every helper makes a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

Schema = dict[str, Any]
Schemas = Mapping[str, Schema]

PLACE = "#/components/schemas/"

ANYTHING: Schema = {}
TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": "boolean"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
OBJECT: Schema = {"type": "object"}
NOTHING: Schema = {"type": "null"}


def ref(name: str) -> Schema:
    """The component of that name."""
    return {"$ref": PLACE + name}


def word(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


def at_least(low: int) -> Schema:
    return {"type": "integer", "minimum": low}


def within(low: float, high: float, kind: str = "number") -> Schema:
    return {"type": kind, "minimum": low, "maximum": high}


def array(of: Schema, *, least: int = 0) -> Schema:
    return {"type": "array", "items": of, **({"minItems": least} if least else {})}


def either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def nullable(schema: Schema) -> Schema:
    return either(schema, NOTHING)


def said(required: Schemas, optional: Schemas | None = None) -> Schema:
    """An object of an answer: what is always there, and what may be. Further fields may come."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def asked(required: Schemas, optional: Schemas | None = None) -> Schema:
    """An object of a request. `null` means "not given"; fields that are not named here change nothing."""
    given = {name: nullable(schema) if schema else schema for name, schema in (optional or {}).items()}
    return {"type": "object", "properties": {**required, **given}, "required": list(required)}


def tagged(kinds: Mapping[str, Schema], *others: str) -> Schema:
    """Objects that say by `type` what they are; `others`: types of which no more is read."""
    known = [_typed(schema, word(kind)) for kind, schema in kinds.items()]
    return either(*known, *([said({"type": word(*others)})] if others else []))


def _typed(schema: Schema, kind: Schema) -> Schema:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    return {"type": "object", "properties": {"type": kind, **properties}, "required": ["type", *required]}


def of_models(*models: type[BaseModel]) -> Schemas:
    """Components for our own types, and for what they are made of."""
    _, told = models_json_schema([(model, "validation") for model in models], ref_template=PLACE + "{model}")
    defined: Schemas = told["$defs"]
    return defined


def names_in(schema: Any) -> Sequence[str]:
    """The components that a schema refers to."""
    if isinstance(schema, dict):
        place = schema.get("$ref")
        own = [place.removeprefix(PLACE)] if isinstance(place, str) and place.startswith(PLACE) else []
        return [*own, *(name for value in schema.values() for name in names_in(value))]
    return [name for value in schema for name in names_in(value)] if isinstance(schema, list) else []

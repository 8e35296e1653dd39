"""JSON by chance: what fits a schema, what almost does, and bodies that are no JSON at all. A seed repeats them."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Json = Any
Schema = Mapping[str, Any]

TEXTS = (
    "",
    " ",
    "a",
    "Grüße",
    "日本語",
    "👩‍💻",
    "null",
    "0",
    "../../etc/passwd",
    "\x00",
    "\u2028",
    "{{ x }}",
    "x" * 300,
    "%00",
    "'\"<",
)
ODD: tuple[Json, ...] = (
    None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 2**31, 2**63, -(2**63) - 1, "", "x", "1", [], {}, [None], [[]],
    {"type": None}, {"type": "x"}, {"": ""}, ["x"], [1], [{}], "\ufffd", "a" * 5000,
)  # fmt: skip
BROKEN = (
    b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"model": NaN}', b'{"model": "\\ud800"}', b"[" * 2000,
    b'{"model": 1e999}', b'{"a": 1, "a": 2}', b"\xef\xbb\xbf{}", b'{"model": "\xc3"}', b"{}{}",
)  # fmt: skip
DEEPEST = 6


class Values:
    """`components`: what `$ref` means. `known`: fields by name whose values are drawn from a list, mostly."""

    def __init__(
        self, chance: random.Random, components: Mapping[str, Schema], known: Mapping[str, list[Json]]
    ) -> None:
        self.chance = chance
        self._components = components
        self._known = known

    def fitting(self, schema: Schema, depth: int = 0) -> Json:
        if "$ref" in schema:
            return self.fitting(self._components[schema["$ref"].rpartition("/")[2]], depth)
        if "anyOf" in schema:
            others = {key: value for key, value in schema.items() if key not in ("anyOf", "type")}
            value = self.fitting(self.chance.choice(schema["anyOf"]), depth)
            return value | self._object(others, depth) if isinstance(value, dict) and "properties" in others else value
        if "const" in schema:
            return schema["const"]
        if choices := schema.get("enum") or schema.get("examples"):
            return self.chance.choice(choices)
        return self._of_type(schema, depth)

    def _of_type(self, schema: Schema, depth: int) -> Json:
        makers: dict[str | None, Callable[[], Json]] = {
            "object": lambda: self._object(schema, depth),
            "array": lambda: self._array(schema, depth),
            "string": lambda: self._text(schema),
            "integer": lambda: self._number(schema, whole=True),
            "number": lambda: self._number(schema, whole=False),
            "boolean": lambda: self.chance.random() < 0.5,
            "null": lambda: None,
            None: lambda: copy.deepcopy(self.chance.choice(ODD)),
        }
        return makers[schema.get("type")]()

    def _array(self, schema: Schema, depth: int) -> Json:
        if "prefixItems" in schema:
            return [self.fitting(each, depth + 1) for each in schema["prefixItems"]]
        least = schema.get("minItems", 0)
        count = least if depth > DEEPEST else self.chance.randint(least, max(least, 3))
        return [self.fitting(schema["items"], depth + 1) for _ in range(count)]

    def _text(self, schema: Schema) -> str:
        fits = [each for each in TEXTS if len(each) >= schema.get("minLength", 0)]
        return self.chance.choice(fits)[: schema.get("maxLength")]

    def _object(self, schema: Schema, depth: int) -> Json:
        required, optional = set(schema.get("required", ())), 0.25 if depth <= DEEPEST else 0.0
        made = {}
        for name, inner in schema.get("properties", {}).items():
            if name in required or self.chance.random() < optional:
                made[name] = self._field(name, inner, depth)
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            made |= {str(self.chance.randint(0, 300)): self.fitting(extra, depth + 1) for _ in range(2)}
        return made

    def _field(self, name: str, schema: Schema, depth: int) -> Json:
        if depth == 0 and name in self._known and self.chance.random() < 0.85:
            return self.chance.choice(self._known[name])
        return self.fitting(schema, depth + 1)

    def _number(self, schema: Schema, *, whole: bool) -> float:
        low: float = schema.get("minimum", schema.get("exclusiveMinimum", -5))
        high: float = schema.get("maximum", max(low, 0) + 20)
        if whole:
            return self.chance.choice([int(low), int(high), self.chance.randint(int(low), int(high))])
        return self.chance.choice([high, self.chance.uniform(low, high), (low + high) / 2])

    # ---- what does not fit

    def spoilt(self, schema: Schema) -> Json:
        """A fitting value with something else in one or two of its places; it may still fit, by chance."""
        value = {"": copy.deepcopy(self.fitting(schema))}
        for _ in range(self.chance.randint(1, 2)):
            holder, key = self.chance.choice(list(_places(value)))
            if isinstance(holder, dict) and key and self.chance.random() < 0.3:
                del holder[key]
            else:
                holder[key] = copy.deepcopy(self.chance.choice(ODD))
        return value[""]

    def body(self, schema: Schema) -> bytes:
        """A request's body: half of them fit, some are no JSON."""
        dice = self.chance.random()
        if dice < 0.06:
            return self.chance.choice(BROKEN)
        value = self.fitting(schema) if dice < 0.5 else self.spoilt(schema)
        return json.dumps(value).encode()


def _places(value: Json) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value inside."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield value, key
        yield from _places(inner)

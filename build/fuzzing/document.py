"""A role's document as the fuzzer reads it. Pure."""

from __future__ import annotations

import copy
from typing import Any

from helpers.fuzzing import KNOWN

_BOUNDS = ("max_tokens", "max_completion_tokens", "n_predict", "num_predict", "max_output_tokens")
_MOST = 16  # tokens of an answer; the models have a bound of their own as well


def aimed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with real names among the values of some request fields, and small bounds of answers."""
    aimed = copy.deepcopy(document)
    for name, schema in aimed["components"]["schemas"].items():
        if _is_asked(document, name):
            _aim(schema.get("properties", {}))
    for methods in aimed["paths"].values():
        for told in methods.values():
            for each in told.get("parameters", ()):
                if each["in"] == "path" and each["name"] in KNOWN:
                    each["schema"] = _known(each["name"])
    return aimed


def _is_asked(document: dict[str, Any], name: str) -> bool:
    place = {"$ref": f"#/components/schemas/{name}"}
    return any(
        told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema") == place
        for methods in document["paths"].values()
        for told in methods.values()
    )


def _known(name: str) -> dict[str, Any]:
    """Not beside what the document says: of a choice that holds another the fuzzer keeps the wider one."""
    return {"enum": [*dict.fromkeys(KNOWN[name]), *(["nobody"] if isinstance(KNOWN[name][0], str) else [])]}


def _aim(properties: dict[str, Any]) -> None:
    for name, schema in properties.items():
        if name in KNOWN:
            properties[name] = _known(name)
        elif name in _BOUNDS:
            properties[name] = {"type": "integer", "minimum": 1, "maximum": _MOST}
        elif name == "options":
            _aim(schema["anyOf"][0]["properties"])

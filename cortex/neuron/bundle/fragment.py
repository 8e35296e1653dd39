"""A model's lines for models.toml. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cortex.config.catalogue import Profile

OF_A_HOST = frozenset({"pinned_on", "vram_mb", "devices"})  # what another fleet has other values for


def fragment(model_id: str, quant: str | None, profile: Profile | None) -> str:
    """`[[models]]` with what its profile says, or with no more than its name."""
    said = profile.model_dump(exclude_unset=True, exclude_none=True, exclude=set(OF_A_HOST)) if profile else {}
    said = {"id": model_id, **({"quant": quant} if quant and "/" in model_id else {}), **said}
    return "[[models]]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in said.items())


def _value(value: Any) -> str:
    match value:
        case Mapping():
            return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(_value(inner) for inner in value) + "]"
        case str():
            return json.dumps(value, ensure_ascii=False).replace(
                "\x7f", "\\u007f"
            )  # a JSON string is one of TOML but for this
        case _:
            return json.dumps(value)

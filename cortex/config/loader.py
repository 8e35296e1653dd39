"""File, environment and command line → one validated object.

Precedence: command line, environment, file, default. Tables merge, lists replace. Environment values are read as TOML
where they look like it (`true`, `8`, `["a"]`), as text otherwise.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from cortex.config.access import why_not
from cortex.config.trust import with_tokens_read

# Names with our prefix that are no configuration keys: they are read before any configuration is.
RESERVED = frozenset({"CORTEX_LOG", "CORTEX_LOG_FORMAT", "CORTEX_ENDPOINT", "CORTEX_API_KEY"})


class ConfigError(Exception):
    """What is wrong with a configuration, one line a mistake, each with its file and key."""


class Section(BaseModel):
    """A table of a configuration file: frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, protected_namespaces=())


S = TypeVar("S", bound=BaseModel)


def load(
    kind: type[S],
    *,
    file: Path | None,
    env_prefix: str,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
) -> S:
    """Read and validate. Raises ConfigError; a file that was named must exist."""
    source, folder = (str(file), file.resolve().parent) if file else ("configuration", Path.cwd())
    values: dict[str, Any] = {}
    try:
        for layer in (read_toml(file) if file else {}, from_environment(env_prefix, environ), overrides or {}):
            _merge(values, with_tokens_read(layer, folder))
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from error
    return validate(kind, values, source=source, folder=folder)


def read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {why_not(file, error)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is not valid TOML: {error}") from error


def validate(kind: type[S], values: Mapping[str, Any], *, source: str, folder: Path | None = None) -> S:
    """`folder` is where relative paths begin that a file names."""
    try:
        return kind.model_validate(values, context={"folder": folder})
    except ValidationError as error:
        raise ConfigError("\n".join(f"{source}: {_explain(kind, mistake)}" for mistake in error.errors())) from error


def from_environment(prefix: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """`PREFIX_A__B=v` → `{"a": {"b": v}}`. Raises ConfigError for a table that has a value of its own."""
    values: dict[str, Any] = {}
    for name, text in sorted(environ.items()):
        if name.startswith(prefix) and name not in RESERVED:
            *tables, key = name[len(prefix) :].lower().split("__")
            table = values
            for step in tables:
                table = table.setdefault(step, {})
                if not isinstance(table, dict):
                    raise ConfigError(f"{name}: '{step}' is a value already, by another variable: say one of them")
            table[key] = text if key.endswith("token") else _value(text)  # a token of digits is no number
    return values


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def _explain(kind: type[BaseModel], mistake: Any) -> str:
    place = ".".join(str(step) for step in mistake["loc"]) or "(top level)"
    if mistake["type"] != "extra_forbidden":
        return f"{place}: {mistake['msg'].removeprefix('Value error, ')}"
    known = _keys_at(kind, mistake["loc"][:-1])
    near = difflib.get_close_matches(str(mistake["loc"][-1]), known, n=1, cutoff=0.5)
    return f"{place}: unknown key" + (
        f"; did you mean '{near[0]}'?" if near else f"; known here: {', '.join(sorted(known))}"
    )


def _keys_at(kind: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """The keys that a table at `loc` may have: pydantic names the place, the types name the keys."""
    for step in loc:
        field = kind.model_fields.get(str(step))
        found = _model_in(field.annotation) if field else None
        kind = found or kind
    return list(kind.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)

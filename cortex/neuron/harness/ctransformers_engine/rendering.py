"""Messages → text by a template in Jinja, as the template's authors had it in Python; what it raises is told as a ValueError.

jinja2's sandbox keeps a template from what is not its own. It does not bound what it takes: see `sandbox`.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import LoopControlExtension  # the class, not its name: the compiler follows imports
from jinja2.sandbox import ImmutableSandboxedEnvironment

Message = Mapping[str, Any]


def check(source: str) -> None:
    """Compile a template, which computes what is constant in it. Raises ValueError for one that is none."""
    try:
        _ENVIRONMENT.from_string(source)
    except Exception as error:  # a stranger's program: whatever it throws, it is not right
        raise ValueError(_told(error)) from error


def render(source: str, messages: Sequence[Message], variables: Mapping[str, Any]) -> str:
    """`variables` are the template's own beside the messages. Raises ValueError when it does not take them."""
    try:
        text: str = _ENVIRONMENT.from_string(source).render({**variables, "messages": list(messages)})
    except Exception as error:
        raise ValueError(_told(error)) from error
    return text


def _told(error: Exception) -> str:
    match error:
        case MemoryError():
            return "it takes too much memory"
        case RecursionError():
            return "it goes deeper than a program may"
    return str(error) or type(error).__name__


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return dt.datetime.now().astimezone().strftime(form)


def _to_json(
    value: Any,
    indent: int | None = None,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002  templates pass it either way
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


_ENVIRONMENT = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[LoopControlExtension], autoescape=False
)
_ENVIRONMENT.globals |= {"raise_exception": _raise, "strftime_now": _now}
_ENVIRONMENT.filters["tojson"] = _to_json

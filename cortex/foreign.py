"""Text that others choose, fit for a log that people read: nobody ends a line, begins one of their own, or speaks to a terminal."""

from __future__ import annotations

import re
import textwrap
import traceback

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CAUSED = "\nThe above exception was the direct cause of the following exception:\n"
_DURING = "\nDuring handling of the above exception, another exception occurred:\n"


def escaped(text: str) -> str:
    """With control characters spelled as Python spells them."""
    return text if text.isprintable() else _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def traceback_of(error: BaseException) -> str:
    """As Python writes it, with what came before. Its lines are ours; messages and notes, which may quote anybody, are escaped."""
    told, seen = [_told(error)], {id(error)}
    while (before := _before(error)) and id(before[0]) not in seen:
        error, how = before
        seen.add(id(error))
        told += [how, _told(error)]
    return "\n".join(reversed(told))


def _before(error: BaseException) -> tuple[BaseException, str] | None:
    if error.__cause__ is not None:
        return error.__cause__, _CAUSED
    if error.__context__ is not None and not error.__suppress_context__:
        return error.__context__, _DURING
    return None


def _told(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__))
    kind, text = type(error), escaped(_text(error))
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    lines = [f"{name}: {text}" if text else name]
    lines += [escaped(str(note)) for note in getattr(error, "__notes__", ())]
    if isinstance(error, BaseExceptionGroup):
        lines += [textwrap.indent(traceback_of(each), "  | ") for each in error.exceptions]
    return (f"Traceback (most recent call last):\n{frames}" if frames else "") + "\n".join(lines)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # somebody else's code; the line is written all the same
        return "<it has no text>"

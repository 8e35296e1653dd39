"""Parameters that llama.cpp would silently ignore, and that change what a client gets: each is refused by name.

Ignored without harm, and so let pass: hints (`prediction`, `service_tier`, `prompt_cache_key`, `verbosity`,
`reasoning_effort`) and what is about a vendor's own storage and accounts (`store`, `metadata`, `user`,
`safety_identifier`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cortex import errors

# field → the values that mean nothing, and what to do instead. Absent and null mean "not given" everywhere.
Table = Mapping[str, tuple[Callable[[Any], bool], str]]


def _never(_value: Any) -> bool:
    return False


def _empty(value: Any) -> bool:
    return value in ("", [], {})


# llama.cpp's own name for `n`, which would escape the bounds of that.
_BY_N: tuple[Callable[[Any], bool], str] = (lambda value: value == 1, "use 'n'")

CHAT: Table = {
    "modalities": (lambda value: value == ["text"], "a model here answers in text only"),
    "audio": (_never, "a model here answers in text only"),
    "web_search_options": (_never, "nothing here searches the web; offer a tool that does"),
    "functions": (_empty, "use 'tools', which replaced it"),
    "function_call": (lambda value: value in ("none", "auto"), "use 'tool_choice', which replaced it"),
    "n_cmpl": _BY_N,
}
COMPLETIONS: Table = {
    "best_of": (lambda value: value == 1, "ask for 'n' answers and choose among them"),
    "n_cmpl": _BY_N,
}
EMBEDDINGS: Table = {
    "dimensions": (_never, "vectors have the model's own length"),
}


def refuse(body: Mapping[str, Any], table: Table) -> None:
    """Raises CortexError (400) for the first parameter that cannot be honoured."""
    for field, (harmless, instead) in table.items():
        value = body.get(field)
        if value is not None and not harmless(value):
            raise errors.invalid_request(
                f"'{field}' is not supported by this model's engine: {instead}",
                code="unsupported_parameter",
                param=field,
            )

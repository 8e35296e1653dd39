"""A page of a list, as Anthropic's clients ask for it: `limit`, `after_id`, `before_id`. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cortex import errors

Entries = list[dict[str, Any]]


class Query(Protocol):
    """The query of a request: the first value of a field, None without one."""

    def get(self, name: str, /) -> str | None: ...


def page_of(entries: Entries, query: Query | Mapping[str, str]) -> tuple[Entries, bool]:
    """The first entries behind `after_id`, or the last in front of `before_id`, and whether there are more in that direction.

    Without `limit` it has all of them. Raises CortexError 400.
    """
    limit, after, before = _limit(query.get("limit")), query.get("after_id"), query.get("before_id")
    ids = [entry["id"] for entry in entries]
    start = 0 if after is None else _place(ids, "after_id", after) + 1
    end = len(ids) if before is None else _place(ids, "before_id", before)
    within = entries[start:end]
    if limit is None or len(within) <= limit:
        return within, False
    backwards = before is not None and after is None
    return (within[-limit:] if backwards else within[:limit]), True


def _limit(said: str | None) -> int | None:
    if said is None:
        return None
    if not (said.isascii() and said.isdigit() and int(said[:9])):
        raise errors.invalid_request("limit must be a whole number of at least 1", param="limit")
    return int(said[:9])


def _place(ids: Sequence[str], field: str, model_id: str) -> int:
    if model_id not in ids:
        raise errors.invalid_request(f"{field}: there is no model '{model_id}'", param=field)
    return ids.index(model_id)

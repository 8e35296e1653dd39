"""What a request wants of former responses, and what is kept of one for those that follow. Pure: a store is elsewhere.

A kept response has the whole input that it answered, what came from responses before it included: one that follows needs
no other, whoever of them is deleted or evicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cortex import errors
from cortex.wire.fields import Value
from cortex.wire.responses.output import Item

NOT_STORED = "chained_conversation_not_supported"
_SETTING = "'[responses] store = true' in cortex.toml lets them be"
_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
_PAGE, _LARGEST_PAGE = 20, 100
MOST_SOURCES = 10_000  # of which one request may name items: each is looked up


@dataclass(frozen=True, slots=True)
class Kept:
    """A response, and its input items: oldest first, each with an id; with the data URLs of images that they name by URL."""

    response: dict[str, Any]
    input: list[Item]
    images: Mapping[str, str] = field(default_factory=dict)

    @property
    def conversation(self) -> list[Item]:
        """What the next request continues."""
        return [*self.input, *self.response["output"]]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a request wants: to be kept, to follow a response, items of others by their ids."""

    keep: bool = False
    previous: str | None = None
    referenced: frozenset[str] = frozenset()

    @property
    def sources(self) -> frozenset[str]:
        """The responses whose output the referenced items are: an id of ours has its response's in it."""
        parts = (item_id.split("_") for item_id in self.referenced)
        return frozenset(f"resp_{part[1]}" for part in parts if len(part) == 3)


def wishes_of(body: Mapping[str, Any], *, on: bool) -> Wishes:
    """`on`: there is a store, and a request that does not say otherwise is kept, as at OpenAI. Raises CortexError 400 naming the field."""
    request = Value(body)
    previous, store = request["previous_response_id"], request["store"]
    if not on and previous.given:
        raise previous.refused(
            f"responses are not stored here: send the whole history as 'input' ({_SETTING})", code=NOT_STORED
        )
    keep = store.flag() if store.given else on
    if keep and not on:
        raise store.refused(f"responses are not stored here: leave it out or send false ({_SETTING})", code=NOT_STORED)
    if not on:
        return Wishes()
    wishes = Wishes(keep, previous.name() if previous.given else None, frozenset(_references(request["input"])))
    if len(wishes.sources) > MOST_SOURCES:
        raise request["input"].refused(f"it names items of more than {MOST_SOURCES} responses")
    return wishes


def _references(given: Value) -> Iterator[str]:
    for item in given if isinstance(given.raw, list) else ():
        if _is_reference(item.raw):
            yield item["id"].name()


def _is_reference(item: Any) -> bool:
    return isinstance(item, dict) and (item.get("type") == "item_reference" or set(item) == {"id"})


def with_history(
    body: Mapping[str, Any], wishes: Wishes, response_id: str, previous: Kept | None, items: Mapping[str, Item]
) -> dict[str, Any]:
    """The request with its whole input as items: what it follows, then its own, with those that it names by `items`.

    Raises CortexError 400 for what is not stored (any more).
    """
    if wishes.previous and previous is None:
        raise errors.invalid_request(
            f"Previous response with id '{wishes.previous}' not found.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    before = previous.conversation if previous else []
    known = {item["id"]: item for item in before if "id" in item} | dict(items)
    own = [_own(item, index, response_id, known) for index, item in enumerate(_listed(Value(body)["input"]))]
    return {**body, "input": before + own, "store": wishes.keep}


def _listed(given: Value) -> list[Value]:
    if isinstance(given.raw, str):
        return [Value({"role": "user", "content": given.raw}, given.where)]
    if given.given and not isinstance(given.raw, list):
        raise given.wrong("a string or an array of items")
    return list(given)


def _own(item: Value, index: int, response_id: str, known: Mapping[str, Item]) -> Any:
    if _is_reference(item.raw):
        if (named := item["id"].name()) not in known:
            raise item.refused(f"Item with id '{named}' not found.", code="item_not_found")
        return known[named]
    if not isinstance(item.raw, dict):
        return item.raw  # translation says what is wrong with it
    kind = item.raw.get("type") or ("message" if "role" in item.raw else None)
    own_id = item["id"].text() if item["id"].raw else ""
    item_id = own_id or f"{_PREFIXES.get(str(kind), 'item')}_{response_id.removeprefix('resp_')}_in{index}"
    return {**item.raw, "id": item_id, **({"type": kind, **_content(item.raw)} if kind == "message" else {})}


def _content(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message's text as the part that it stands for."""
    content = message.get("content")
    if not isinstance(content, str):
        return {}
    if message.get("role") == "assistant":
        return {"content": [{"type": "output_text", "text": content, "annotations": []}]}
    return {"content": [{"type": "input_text", "text": content}]}


# ---- what is shown of a kept response


class Query(Protocol):
    """The query of a request: the first value of a field, None without one."""

    def get(self, name: str, /) -> str | None: ...


def item_page(items: list[Item], query: Query | Mapping[str, str]) -> dict[str, Any]:
    """OpenAI's list of input items: newest first unless `order=asc`, `limit` of them, `after` an id. Raises CortexError 400."""
    order = query.get("order") or "desc"
    if order not in ("asc", "desc"):
        raise errors.invalid_request("order must be asc or desc", param="order")
    ordered = items if order == "asc" else items[::-1]
    ids = [item.get("id") for item in ordered]
    if (after := query.get("after")) is not None:
        if after not in ids:
            raise errors.invalid_request(f"after: there is no item '{after}'", param="after")
        ordered = ordered[ids.index(after) + 1 :]
    page = ordered[: _limit(query.get("limit"))]
    ends = {"first_id": page[0].get("id"), "last_id": page[-1].get("id")} if page else {}
    return {
        "object": "list",
        "data": page,
        "has_more": len(page) < len(ordered),
        "first_id": None,
        "last_id": None,
    } | ends


def _limit(said: str | None) -> int:
    if said is None:
        return _PAGE
    if not (said.isascii() and said.isdigit() and len(said) < 9 and 1 <= int(said) <= _LARGEST_PAGE):
        raise errors.invalid_request(f"limit must be a whole number from 1 to {_LARGEST_PAGE}", param="limit")
    return int(said)

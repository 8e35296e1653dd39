"""Reading a client's JSON: every value knows its place, so that an error can name it (`messages.3.content.0.source`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from cortex import errors
from cortex.errors import CortexError

_TOO_DEEP = "it is nested too deeply: some 250 levels are the most"


def request_of(body: Any) -> Value:
    """A request's body, to be read. Raises CortexError 400 when it nests deeper than can be passed on."""
    request = Value(body)
    if not can_be_sent(body):
        raise request.refused(_TOO_DEEP)
    return request


def written(body: Any) -> bytes:
    """A client's JSON, written anew. Raises CortexError 400 when it nests deeper than can be."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise Value(body).refused(_TOO_DEEP) from None


def can_be_sent(value: Any) -> bool:
    """Whether it can be encoded again, also some levels deeper: orjson reads 1024 levels, and writes 254."""
    try:
        orjson.dumps([[[[value]]]])
    except orjson.JSONEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Value:
    """A JSON value and where it stands. `null` means "not given", as clients send it.

    Every reader raises CortexError 400 (`param` is the place) when the value is not what it must be.
    """

    raw: Any
    where: str = ""

    @property
    def given(self) -> bool:
        return self.raw is not None

    def __getitem__(self, key: str) -> Value:
        """A field of an object; one that is absent is not given."""
        return Value(self.an_object().get(key), f"{self.where}.{key}" if self.where else key)

    def __iter__(self) -> Iterator[Value]:
        """The elements of an array; none when it is not given."""
        if not self.given:
            return
        if not isinstance(self.raw, list):
            raise self.wrong("an array")
        for index, element in enumerate(self.raw):
            yield Value(element, f"{self.where}.{index}")

    def wrong(self, right: str) -> CortexError:
        """The error to raise: `right` says what it must be."""
        if not self.given:
            return self.refused(f"field required: it must be {right}")
        return self.refused(f"must be {right}")

    def refused(self, reason: str, *, code: str | None = None) -> CortexError:
        """The error to raise for a value that is well formed but cannot be honoured."""
        return errors.invalid_request(f"{self.where or 'the request body'}: {reason}", param=self.where, code=code)

    def an_object(self) -> dict[str, Any]:
        if not isinstance(self.raw, dict):
            raise self.wrong("an object")
        return self.raw

    def text(self) -> str:
        if not isinstance(self.raw, str):
            raise self.wrong("a string")
        return self.raw

    def name(self) -> str:
        """A string that is not empty."""
        if not self.text():
            raise self.wrong("a string that is not empty")
        return self.text()

    def flag(self) -> bool:
        if not isinstance(self.raw, bool):
            raise self.wrong("true or false")
        return self.raw

    def integer(self, at_least: int) -> int:
        if not isinstance(self.raw, int) or isinstance(self.raw, bool) or self.raw < at_least:
            raise self.wrong(f"an integer of at least {at_least}")
        return self.raw

    def number(self) -> float:
        if not isinstance(self.raw, int | float) or isinstance(self.raw, bool):
            raise self.wrong("a number")
        return self.raw

    def one_of(self, *choices: str) -> str:
        if self.raw not in choices or not isinstance(self.raw, str):
            raise self.wrong(" or ".join(f'"{choice}"' for choice in choices))
        return self.raw

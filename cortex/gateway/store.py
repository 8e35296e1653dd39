"""What is stored at a gateway: one error, and how a statement is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class StoreError(Exception):
    """The store could not be asked, or could not do it; nothing of the transaction happened. Tells no secret."""


class Execute(Protocol):
    """Runs one statement, with `?` for each parameter; the rows that it gives."""

    def __call__(self, sql: str, parameters: Sequence[Any] = (), /) -> list[tuple[Any, ...]]: ...

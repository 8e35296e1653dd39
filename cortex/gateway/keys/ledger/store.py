"""What the books need of a database."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS cortex_accounts (
        account_id TEXT NOT NULL, key_id TEXT NOT NULL,
        window_began DOUBLE PRECISION NOT NULL, used BIGINT NOT NULL, held BIGINT NOT NULL, open BIGINT NOT NULL,
        minute_began DOUBLE PRECISION NOT NULL, requests BIGINT NOT NULL,
        reserved BIGINT NOT NULL, settled BIGINT NOT NULL, released BIGINT NOT NULL,
        PRIMARY KEY (account_id, key_id))""",
    """CREATE TABLE IF NOT EXISTS cortex_reservations (
        id TEXT PRIMARY KEY, account_id TEXT NOT NULL, key_id TEXT NOT NULL, tokens BIGINT NOT NULL,
        gateway TEXT NOT NULL, expires DOUBLE PRECISION NOT NULL)""",
)


class StoreError(Exception):
    """The store could not be asked, or could not do it; nothing of the transaction happened. Tells no secret."""


class Execute(Protocol):
    """Runs one statement, with `?` for each parameter; the rows that it gives."""

    def __call__(self, sql: str, parameters: Sequence[Any] = (), /) -> list[tuple[Any, ...]]: ...


class Store(Protocol):
    """A database with SCHEMA in it. Used by one thread.

    row_lock   what a SELECT ends with, so that nobody else reads its rows until the transaction is over
    """

    row_lock: str

    def transaction(self) -> AbstractContextManager[Execute]:
        """All or nothing: an exception undoes it. Raises StoreError."""
        ...

    def close(self) -> None: ...

"""What the books need of a database."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from cortex.gateway.store import Execute, StoreError

__all__ = ["SCHEMA", "Execute", "Store", "StoreError"]

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


class Store(Protocol):
    """A database with SCHEMA in it. Used by one thread.

    row_lock   what a SELECT ends with, so that nobody else reads its rows until the transaction is over
    """

    row_lock: str

    def transaction(self) -> AbstractContextManager[Execute]:
        """All or nothing: an exception undoes it. Raises StoreError."""
        ...

    def close(self) -> None: ...

"""The ledger in a SQLite file. Several gateways of one host may use it at once."""

from __future__ import annotations

from pathlib import Path

from cortex.gateway.keys.ledger.store import SCHEMA
from cortex.gateway.sqlite import SqliteFile


class SqliteStore(SqliteFile):
    row_lock = ""  # BEGIN IMMEDIATE locks the file

    def __init__(self, file: Path) -> None:
        """Raises StoreError naming the file."""
        super().__init__(file, SCHEMA, "the ledger")

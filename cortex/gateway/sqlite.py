"""A SQLite file that the gateways of one host share: no service to run.

WAL with synchronous=NORMAL: a killed process loses nothing, a power cut may lose the last moments. The file is its user's alone.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cortex.gateway.store import Execute, StoreError

BUSY_S = 5.0  # how long another gateway's transaction may take


class SqliteFile:
    """An open file with `schema` in it; `what` names it in errors. Used by one thread."""

    def __init__(self, file: Path, schema: Sequence[str], what: str) -> None:
        """Raises StoreError naming the file."""
        self._file = file
        self._what = what
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            with self.transaction() as sql:
                for statement in schema:
                    sql(statement)
        except BaseException as error:
            self._connection.close()
            raise (self._failed(error) if isinstance(error, sqlite3.Error) else error) from error

    def _failed(self, error: Exception) -> StoreError:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return StoreError(f"{self._what} {self._file} cannot be used: {reason}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Execute]:
        """All or nothing: an exception undoes it. Raises StoreError."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._execute
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OverflowError) as error:
            raise self._failed(error) from error

    def _execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters).fetchall()

    def close(self) -> None:
        self._connection.close()

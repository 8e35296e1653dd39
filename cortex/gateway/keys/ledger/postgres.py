"""The ledger in PostgreSQL, which several gateways share. The only importer of psycopg, an extra: `cortex[postgres]`.

One connection, made when it is needed. No wait is without end: a server that hangs is a StoreError after seconds. What
psycopg says of an address may hold the password, so it is not passed on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import psycopg.conninfo

from cortex.gateway.keys.ledger.store import SCHEMA, Execute, StoreError

TIMEOUT_S = 5
SCHEMA_LOCK = 0x636F72746578  # "cortex": gateways that start together make the tables one after the other
_PATIENCE = {
    "connect_timeout": str(TIMEOUT_S),
    "tcp_user_timeout": str(TIMEOUT_S * 1000),
    "options": f"-c statement_timeout={TIMEOUT_S * 1000} -c lock_timeout={TIMEOUT_S * 1000}",
    "application_name": "cortex",
}


def parsed(address: str) -> dict[str, Any]:
    """What an address says. Raises StoreError."""
    try:
        return psycopg.conninfo.conninfo_to_dict(address)
    except psycopg.Error:
        raise StoreError("entitlements.database is no PostgreSQL address that can be read") from None


class PostgresStore:
    row_lock = " FOR UPDATE"

    def __init__(self, address: str) -> None:
        """Raises StoreError."""
        given = parsed(address)
        self._password = str(given.get("password") or "")
        try:
            self._connection: psycopg.Connection[tuple[Any, ...]] = psycopg.connect(
                **{**_PATIENCE, **given}, autocommit=True
            )
        except psycopg.Error as error:
            raise self._failed(error) from None
        try:
            with self.transaction() as sql:
                sql("SELECT pg_advisory_xact_lock(?)", (SCHEMA_LOCK,))
                for statement in SCHEMA:
                    sql(statement)
        except BaseException:
            self._connection.close()
            raise

    def _failed(self, error: Exception) -> StoreError:
        reason = " ".join(str(error).split())
        return StoreError(
            f"the ledger in PostgreSQL cannot be used: {reason.replace(self._password, '…') if self._password else reason}"
        )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Execute]:
        try:
            with self._connection.transaction():
                yield self._execute
        except psycopg.Error as error:
            raise self._failed(error) from None

    def _execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(sql.replace("?", "%s").encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self._connection.close()

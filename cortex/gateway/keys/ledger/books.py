"""What happens to accounts and reservations: `policy` decides, a store keeps.

A reservation is settled exactly once, by its gateway or, when that has not been heard of for `ttl_s`, by whoever looks
next; then in full, because nobody knows what it took and a cap must hold. Clocks of gateways that share a store agree.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import astuple, fields

from cortex.gateway.keys import policy
from cortex.gateway.keys.ledger.store import Execute, Store
from cortex.gateway.keys.policy import Account, Limits

Name = tuple[str, str]  # account and key

_COLUMNS = [field.name for field in fields(Account)]
_READ = f"SELECT {', '.join(_COLUMNS)} FROM cortex_accounts WHERE account_id = ? AND key_id = ?"  # noqa: S608  our own columns
_CREATE = f"""INSERT INTO cortex_accounts (account_id, key_id, {", ".join(_COLUMNS)})
    VALUES ({", ".join("?" * (2 + len(_COLUMNS)))}) ON CONFLICT (account_id, key_id) DO NOTHING"""  # noqa: S608
_WRITE = (
    f"UPDATE cortex_accounts SET {', '.join(f'{name} = ?' for name in _COLUMNS)} WHERE account_id = ? AND key_id = ?"  # noqa: S608
)


class Books:
    """`gateway` tells this process's reservations from those of others."""

    def __init__(self, store: Store, gateway: str, *, ttl_s: float, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._gateway = gateway
        self._ttl_s = ttl_s
        self._clock = clock

    def reserve(self, name: Name, limits: Limits, tokens: int) -> str:
        """The reservation's id. Raises CortexError 429 when a limit stands against it, StoreError."""
        reservation, now = secrets.token_hex(12), self._clock()
        with self._store.transaction() as sql:
            account = policy.reserve(self._account(sql, name), limits, tokens, now)
            self._write(sql, name, account)
            sql(
                "INSERT INTO cortex_reservations (id, account_id, key_id, tokens, gateway, expires) VALUES (?, ?, ?, ?, ?, ?)",
                (reservation, *name, tokens, self._gateway, now + self._ttl_s),
            )
        return reservation

    def settle(self, reservation: str, took: int) -> None:
        """Idempotent: what was settled before stays as it is. Raises StoreError."""
        with self._store.transaction() as sql:
            self._settle(sql, "id = ?", reservation, took)

    def _settle(self, sql: Execute, condition: str, value: str | float, took: int | None) -> bool:
        """Settle one reservation, in full where nobody knows what it took; False when there is none."""
        rows = sql(
            f"SELECT id, account_id, key_id, tokens FROM cortex_reservations WHERE {condition} LIMIT 1{self._store.row_lock}",  # noqa: S608
            (value,),
        )
        for reservation, account_id, key_id, tokens in rows:
            name = (account_id, key_id)
            sql("DELETE FROM cortex_reservations WHERE id = ?", (reservation,))
            took = tokens if took is None else took
            self._write(sql, name, policy.settle(self._account(sql, name), tokens, took))
        return bool(rows)

    def renew(self) -> None:
        """Say that this gateway lives, and its reservations with it. Raises StoreError."""
        with self._store.transaction() as sql:
            sql(
                "UPDATE cortex_reservations SET expires = ? WHERE gateway = ?",
                (self._clock() + self._ttl_s, self._gateway),
            )

    def settle_expired(self) -> int:
        """Settle in full what its gateway has left behind; how many there were. Raises StoreError."""
        found = 0
        while True:
            with self._store.transaction() as sql:
                if not self._settle(sql, "expires < ?", self._clock(), None):
                    return found
            found += 1

    def account(self, name: Name) -> Account:
        """Raises StoreError."""
        with self._store.transaction() as sql:
            return self._account(sql, name)

    def _account(self, sql: Execute, name: Name) -> Account:
        rows = sql(_READ + self._store.row_lock, name)
        if not rows:  # another gateway may make it in the same moment
            sql(_CREATE, (*name, *astuple(Account())))
            rows = sql(_READ + self._store.row_lock, name)
        return Account(*rows[0])

    def _write(self, sql: Execute, name: Name, account: Account) -> None:
        sql(_WRITE, (*astuple(account), *name))

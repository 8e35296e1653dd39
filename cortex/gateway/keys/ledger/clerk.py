"""Keeps one gateway's books: opens the store when it is needed, and again after a failure. Lives in one thread.

A store that fails refuses reservations at once for RETRY_S, so that clients do not queue behind its time-outs. Settlements
wait for it instead, and nothing is charged twice.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable

from cortex import errors
from cortex.gateway.keys.ledger.books import Books, Name
from cortex.gateway.keys.ledger.store import Store, StoreError
from cortex.gateway.keys.policy import Limits

RETRY_S = 1.0
log = logging.getLogger(__name__)


class Clerk:
    def __init__(self, connect: Callable[[], Store], *, ttl_s: float) -> None:
        self._connect = connect
        self._ttl_s = ttl_s
        self._gateway = secrets.token_hex(8)
        self._store: Store | None = None
        self._failed_at: float | None = None
        self._unsettled: dict[str, int] = {}

    def reserve(self, name: Name, limits: Limits, tokens: int) -> str:
        """A reservation's id. Raises CortexError: 429, or 503 while the store fails."""
        try:
            reservation = self._books().reserve(name, limits, tokens)
        except StoreError as error:
            self._fail(error)
            raise errors.unavailable("the ledger of this gateway's keys cannot be reached") from error
        self._works()
        return reservation

    def settle(self, reservation: str, took: int) -> None:
        self._unsettled[reservation] = took
        self._attempt(self._settle_all)

    def tend(self) -> None:
        """To be called every third of the time to live."""
        self._attempt(self._tend)

    def close(self) -> None:
        self._attempt(self._settle_all)
        if self._unsettled:
            log.warning("%d requests stay unsettled and will count in full", len(self._unsettled))
        self._drop()

    def _tend(self) -> None:
        books = self._books()
        self._settle_all()
        books.renew()
        if expired := books.settle_expired():
            log.warning("%d requests of a gateway that ended were settled in full", expired)
        self._works()

    def _settle_all(self) -> None:
        while self._unsettled:
            reservation, took = next(iter(self._unsettled.items()))
            self._books().settle(reservation, took)
            del self._unsettled[reservation]

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except StoreError as error:
            self._fail(error)

    def _books(self) -> Books:
        if self._rests():
            raise StoreError("the ledger failed a moment ago")
        if self._store is None:
            self._store = self._connect()
        return Books(self._store, self._gateway, ttl_s=self._ttl_s)

    def _rests(self) -> bool:
        return self._failed_at is not None and time.monotonic() - self._failed_at < RETRY_S

    def _works(self) -> None:
        if self._failed_at is not None:
            log.info("the ledger works again")
        self._failed_at = None

    def _fail(self, error: StoreError) -> None:
        """A connection that failed once is not trusted again."""
        if self._failed_at is None:
            log.error("%s; keys with limits are refused until it works", error)
        if not self._rests():
            self._failed_at = time.monotonic()
        self._drop()

    def _drop(self) -> None:
        store, self._store = self._store, None
        if store:
            store.close()

"""Where the event loop hands in reservations and settlements: one thread writes them, in order, and the loop never waits for a disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from cortex.config.entitlements import POSTGRES_SCHEMES, EntitlementsSection
from cortex.config.state_dir import state_directory
from cortex.gateway.keys.ledger.books import Name
from cortex.gateway.keys.ledger.clerk import Clerk
from cortex.gateway.keys.ledger.store import Store, StoreError
from cortex.gateway.keys.policy import Limits
from cortex.tasks import Tasks

FILE = "entitlements.sqlite"
log = logging.getLogger(__name__)


class LedgerDesk:
    """`connect` is called in the ledger's thread when a key with limits is first used."""

    def __init__(self, connect: Callable[[], Store], *, ttl_s: float) -> None:
        self._clerk = Clerk(connect, ttl_s=ttl_s)
        self._ttl_s = ttl_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._tasks = Tasks("ledger")
        self._tending: asyncio.Task[None] | None = None

    async def reserve(self, name: Name, limits: Limits, tokens: int) -> str:
        """The reservation's id, to be settled once. Raises CortexError 429, or 503 while the ledger cannot be reached."""
        self._start_tending()
        future = self._thread.submit(self._clerk.reserve, name, limits, tokens)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(self._give_back)
            raise

    def _give_back(self, future: Future[str]) -> None:
        """Who asked has left meanwhile. Called in the ledger's thread, or in the loop's when it is done already."""
        if not future.cancelled() and future.exception() is None:
            self.settle(future.result(), 0)

    def settle(self, reservation: str, took: int) -> None:
        """Returns at once; it is done as soon as the ledger can be reached."""
        self._thread.submit(self._clerk.settle, reservation, took).add_done_callback(_report)

    @contextlib.asynccontextmanager
    async def open(self, *, counting: bool) -> AsyncIterator[LedgerDesk]:
        """The desk for the time of a block. With `counting` the store is tried at once, which settles what a killed gateway left."""
        try:
            if counting:
                await self._in_thread(self._clerk.tend)
                self._start_tending()
            yield self
        finally:
            await self._tasks.aclose()
            await self._in_thread(lambda: None)  # whoever left during a reservation has handed in its settlement
            self._thread.submit(self._clerk.close)
            await asyncio.to_thread(self._thread.shutdown)

    def _start_tending(self) -> None:
        """From the first use on: without limits there is no store."""
        if self._tending is None:
            self._tending = self._tasks.start("tend", self._tend())

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(self._ttl_s / 3)
            await self._in_thread(self._clerk.tend)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await asyncio.wrap_future(self._thread.submit(work))


def _report(future: Future[None]) -> None:
    """Nobody awaits a settlement; a mistake of ours in one must not be silent."""
    if error := future.exception():
        log.error("a settlement failed: %r", error, exc_info=error)


def ledger_of(entitlements: EntitlementsSection) -> contextlib.AbstractAsyncContextManager[LedgerDesk]:
    """The configured ledger. Raises StoreError when it never can be used."""
    desk = LedgerDesk(_connecting(entitlements), ttl_s=entitlements.reservation_ttl_secs)
    return desk.open(counting=any(entry.is_limited for entry in entitlements.keys))


def _connecting(entitlements: EntitlementsSection) -> Callable[[], Store]:
    database = entitlements.database.get_secret_value() if entitlements.database else None
    if database and database.startswith(POSTGRES_SCHEMES):
        return _postgres(database)
    return lambda: _sqlite(Path(database) if database else None)


def _sqlite(file: Path | None) -> Store:
    from cortex.gateway.keys.ledger.sqlite import SqliteStore

    folder = state_directory(None)
    if file is None and folder is None:
        raise StoreError("the ledger has no state directory: set [entitlements] database to a file")
    return SqliteStore(file or (folder or Path()) / FILE)


def _postgres(address: str) -> Callable[[], Store]:
    try:
        from cortex.gateway.keys.ledger.postgres import PostgresStore, parsed
    except ImportError as error:
        raise StoreError("a ledger in PostgreSQL needs psycopg: pip install 'cortex[postgres]'") from error
    parsed(address)
    return lambda: PostgresStore(address)

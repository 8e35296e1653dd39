"""Answers of /v1/responses, kept for requests that follow them: a bounded SQLite file that the gateways of a host share.

One thread reads and writes it, so the event loop never waits for a disk. What is kept is its key's alone: another one is
told that there is no such response. An answer that could not be kept is an answer all the same; the log says why. Where its
images have no room it is kept without them, and their URLs are fetched again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from cortex import errors
from cortex.config.responses import ResponsesSection
from cortex.config.state_dir import state_directory
from cortex.gateway import response_images
from cortex.gateway.store import Execute, StoreError
from cortex.wire.responses import Kept

if TYPE_CHECKING:
    from cortex.gateway.sqlite import SqliteFile

FILE = "responses.sqlite"
MIB = 1024 * 1024
_LEVEL = 1  # of zlib: a conversation shrinks to a third, in a third of the time of the usual level
_SCHEMA = (
    "PRAGMA secure_delete = ON",  # what is deleted is gone
    """CREATE TABLE IF NOT EXISTS cortex_responses (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, bytes INTEGER NOT NULL,
        response BLOB NOT NULL, input BLOB NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS cortex_responses_by_age ON cortex_responses (created, bytes)",
    *response_images.SCHEMA,
)

T = TypeVar("T")
log = logging.getLogger(__name__)


class ResponseStore:
    """`settings` are those in force. `owner` is whose a response is; anonymous callers are one owner."""

    def __init__(self, settings: Callable[[], ResponsesSection], clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="responses")
        self._file: SqliteFile | None = None

    @property
    def on(self) -> bool:
        return self._settings().store

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[ResponseStore]:
        """The store for the time of a block. Where it is on it is tried at once, and what is too old goes."""
        try:
            if self.on:
                await self._quietly(self._tidy)
            yield self
        finally:
            self._thread.submit(self._close)
            await asyncio.to_thread(self._thread.shutdown)

    async def keep(self, owner: str, kept: Kept) -> None:
        """Done when it would survive this process. Never raises: its answer exists."""
        await self._quietly(lambda: self._keep(owner, kept))

    async def find(self, owner: str, response_id: str) -> Kept | None:
        """Raises CortexError 503 when the store cannot be used."""
        return await self._in_thread(lambda: self._find(owner, response_id))

    async def outputs(self, owner: str, response_ids: Iterable[str]) -> Mapping[str, dict[str, Any]]:
        """Output items of these responses, by their ids. Raises CortexError 503."""
        return await self._in_thread(lambda: self._outputs(owner, response_ids))

    async def forget(self, owner: str, response_id: str) -> bool:
        """Whether there was one. Raises CortexError 503."""
        return await self._in_thread(lambda: self._forget(owner, response_id))

    # ---- from the loop into the thread

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.wrap_future(self._thread.submit(self._attempt, work))
        except StoreError as error:
            log.error("%s", error)  # noqa: TRY400  the message says it all
            raise errors.unavailable("stored responses cannot be reached") from error

    async def _quietly(self, work: Callable[[], None]) -> None:
        with contextlib.suppress(errors.CortexError):
            await self._in_thread(work)

    # ---- in the thread

    def _attempt(self, work: Callable[[], T]) -> T:
        """A file that failed once is opened anew."""
        try:
            return work()
        except StoreError:
            self._close()
            raise

    def _opened(self) -> SqliteFile:
        if self._file is None:
            from cortex.gateway.sqlite import SqliteFile

            self._file = SqliteFile(self._path(), _SCHEMA, "the store of responses")
        return self._file

    def _path(self) -> Path:
        configured, folder = self._settings().database, state_directory(None)
        if configured is None and folder is None:
            raise StoreError("the store of responses has no state directory: set [responses] database to a file")
        return configured or (folder or Path()) / FILE

    def _close(self) -> None:
        file, self._file = self._file, None
        if file:
            file.close()

    def _keep(self, owner: str, kept: Kept) -> None:
        most, parts = self._settings().max_mb * MIB, (orjson.dumps(kept.response), orjson.dumps(kept.input))
        if (whole := sum(map(len, parts))) > most:  # what follows it unpacks it
            log.warning("a response of %d bytes is not kept: [responses] max_mb is less", whole)
            return
        response, given = map(_packed, parts)
        size = len(response) + len(given) + sum(map(len, kept.images))
        images = kept.images if size + sum(map(len, kept.images.values())) <= most else {}
        with self._opened().transaction() as sql:
            sql(
                "INSERT OR REPLACE INTO cortex_responses (id, owner, created, bytes, response, input) VALUES (?, ?, ?, ?, ?, ?)",
                (kept.response["id"], owner, self._clock(), size, response, given),
            )
            response_images.keep(sql, kept.response["id"], images)
            self._evict(sql)

    def _tidy(self) -> None:
        with self._opened().transaction() as sql:
            self._evict(sql)

    def _evict(self, sql: Execute) -> None:
        """What is too old, then the oldest until the rest is not too much."""
        settings = self._settings()
        sql("DELETE FROM cortex_responses WHERE created < ?", (self._oldest,))
        ((count, size),) = sql("SELECT count(*), coalesce(sum(bytes), 0) FROM cortex_responses")
        images = response_images.size(sql)
        while count > settings.max_entries or size + images > settings.max_mb * MIB:
            ((oldest, its_size),) = sql("SELECT rowid, bytes FROM cortex_responses ORDER BY created, rowid LIMIT 1")
            sql("DELETE FROM cortex_responses WHERE rowid = ?", (oldest,))
            count, size = count - 1, size - its_size
            images = response_images.size(sql) if images else 0

    @property
    def _oldest(self) -> float:
        return self._clock() - self._settings().max_age_secs

    def _find(self, owner: str, response_id: str) -> Kept | None:
        with self._opened().transaction() as sql:
            for response, given in self._rows(sql, "response, input", owner, response_id):
                return Kept(_unpacked(response), _unpacked(given), response_images.find(sql, response_id))
        return None

    def _outputs(self, owner: str, response_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        with self._opened().transaction() as sql:
            found = [row for each in response_ids for row in self._rows(sql, "response", owner, each)]
        return {item["id"]: item for (response,) in found for item in _unpacked(response)["output"]}

    def _rows(self, sql: Execute, columns: str, owner: str, response_id: str) -> list[tuple[Any, ...]]:
        return sql(
            f"SELECT {columns} FROM cortex_responses WHERE id = ? AND owner = ? AND created >= ?",  # noqa: S608  our own columns
            (response_id, owner, self._oldest),
        )

    def _forget(self, owner: str, response_id: str) -> bool:
        with self._opened().transaction() as sql:
            return bool(
                sql("DELETE FROM cortex_responses WHERE id = ? AND owner = ? RETURNING id", (response_id, owner))
            )


def _packed(written: bytes) -> bytes:
    return zlib.compress(written, _LEVEL)


def _unpacked(packed: bytes) -> Any:
    return orjson.loads(zlib.decompress(packed))

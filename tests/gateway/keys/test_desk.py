"""The event loop's side of the ledger: it never waits for a disk, and whoever leaves holds nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from helpers.waiting import until

from cortex.config.entitlements import EntitlementsSection
from cortex.errors import CortexError
from cortex.gateway.keys.ledger.books import Books
from cortex.gateway.keys.ledger.desk import LedgerDesk, ledger_of
from cortex.gateway.keys.ledger.sqlite import SqliteStore
from cortex.gateway.keys.ledger.store import Execute, Store, StoreError
from cortex.gateway.keys.policy import Account, Limits
from cortex.tasks import Tasks

NAME = ("a", "k")
CAP = Limits(tokens=100)


class Trouble:
    """What befalls a ledger's transactions: they wait for `gate`, and fail while it is `broken`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.broken = False

    def connect(self) -> Store:
        return TroubledStore(self)


class TroubledStore(SqliteStore):
    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        super().__init__(trouble.file)

    @contextmanager
    def transaction(self) -> Iterator[Execute]:
        self._trouble.waiting.set()
        assert self._trouble.gate.wait(20)
        if self._trouble.broken:
            raise StoreError("broken on purpose")
        with super().transaction() as sql:
            yield sql


def account(file: Path) -> Account:
    with closing(SqliteStore(file)) as store:
        return Books(store, "test", ttl_s=60).account(NAME)


@pytest.mark.parametrize("moment", ["queued", "running"])
def test_who_leaves_during_a_reservation_holds_nothing(tmp_path: Path, moment: str) -> None:
    """Cancelled before the ledger's thread came to it, or while it wrote: nothing stays open."""
    file = tmp_path / "ledger.sqlite"
    slow = Trouble(file)

    async def scenario() -> None:
        tasks = Tasks("test")
        async with LedgerDesk(slow.connect, ttl_s=60).open(counting=False) as desk:
            desk.settle(await desk.reserve(NAME, CAP, 10), 10)
            await until(lambda: account(file).open == 0)
            slow.gate.clear()
            slow.waiting.clear()
            reserving = [tasks.start(f"reserve {number}", desk.reserve(NAME, CAP, 20)) for number in range(2)]
            await until(slow.waiting.is_set)
            leaving = reserving[moment == "queued"]
            leaving.cancel()
            await asyncio.wait([leaving])
            slow.gate.set()
            desk.settle(await reserving[moment == "running"], 5)
            await until(lambda: account(file).open == 0)
        assert (account(file).used, account(file).held) == (15, 0)

    asyncio.run(scenario())


def test_settlements_wait_for_a_ledger_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Reservations are refused with 503 at once meanwhile; afterwards everything has been settled once."""
    file = tmp_path / "ledger.sqlite"
    slow = Trouble(file)

    async def scenario() -> None:
        async with LedgerDesk(slow.connect, ttl_s=0.6).open(counting=True) as desk:
            held = [await desk.reserve(NAME, CAP, 10) for _ in range(3)]
            slow.broken = True
            for reservation in held:
                desk.settle(reservation, 7)
            with pytest.raises(CortexError) as refused:
                await desk.reserve(NAME, CAP, 10)
            assert (refused.value.status, refused.value.retry_after) == (503, 5)
            slow.broken = False
            await until(lambda: account(file).open == 0)
        assert account(file).settled in {21, 30}  # 30: it was away for longer than the time to live
        assert account(file).reserved == account(file).settled + account(file).released

    asyncio.run(scenario())
    assert caplog.text.count("broken on purpose") == 1


def test_leaving_the_desk_settles_what_was_handed_in(tmp_path: Path) -> None:
    """A gateway that stops in order leaves nothing open."""
    file = tmp_path / "ledger.sqlite"

    async def scenario() -> None:
        async with LedgerDesk(lambda: SqliteStore(file), ttl_s=60).open(counting=True) as desk:
            for reservation in [await desk.reserve(NAME, CAP, 10) for _ in range(10)]:
                desk.settle(reservation, 3)

    asyncio.run(scenario())
    assert (account(file).used, account(file).open) == (30, 0)


def opened(**entitlements: object) -> Callable[[], None]:
    async def scenario() -> None:
        async with ledger_of(EntitlementsSection.model_validate(entitlements)):
            pass

    return lambda: asyncio.run(scenario())


def test_without_limits_there_is_no_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that counts nothing writes nothing; one that does writes into its state directory."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    opened(keys=[{"key": "k", "account_id": "a"}])()
    assert not (tmp_path / "state").exists()
    opened(keys=[{"key": "k", "account_id": "a", "hard_cap": 5}])()
    assert (tmp_path / "state" / "entitlements.sqlite").exists()


def test_an_address_that_cannot_be_read_stops_the_start() -> None:
    """What no waiting mends is said at once, without the address."""
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match="no PostgreSQL address") as failed:
        opened(database="postgresql://u:sk-secret%zz@h/d")()
    assert "sk-secret" not in str(failed.value)

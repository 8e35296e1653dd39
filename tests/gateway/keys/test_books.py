"""Accounts and reservations in both stores: exactly once, never above a cap, whoever dies."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from cortex.errors import CortexError
from cortex.gateway.keys.ledger.books import Books
from cortex.gateway.keys.ledger.sqlite import SqliteStore
from cortex.gateway.keys.ledger.store import Store, StoreError
from cortex.gateway.keys.policy import Account, Limits

NAME = ("acme", "ci")
CAP = Limits(tokens=100)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def sums(account: Account) -> tuple[int, int, int, int]:
    return account.reserved, account.settled, account.released, account.held


def test_an_account_outlives_its_connection(connect: Callable[[], Store]) -> None:
    """What was settled through one connection stands against the next."""
    with closing(connect()) as store:
        books = Books(store, "g1", ttl_s=60)
        books.settle(books.reserve(NAME, CAP, 80), 60)
    with closing(connect()) as store:
        books = Books(store, "g2", ttl_s=60)
        assert sums(books.account(NAME)) == (80, 60, 20, 0)
        with pytest.raises(CortexError) as refused:
            books.reserve(NAME, CAP, 41)
        assert refused.value.code == "insufficient_quota"
        assert sums(books.account(NAME)) == (80, 60, 20, 0)
        books.reserve(("acme", "other"), CAP, 100)  # another key is another account


def test_a_settlement_counts_once(connect: Callable[[], Store]) -> None:
    """The second settlement of a reservation, and one of a reservation that never was, change nothing."""
    with closing(connect()) as store:
        books = Books(store, "g", ttl_s=60)
        reservation = books.reserve(NAME, CAP, 50)
        for took in (20, 50, 0):
            books.settle(reservation, took)
        books.settle("nobody's", 7)
        assert sums(books.account(NAME)) == (50, 20, 30, 0)


def test_what_a_dead_gateway_held_is_settled_in_full(connect: Callable[[], Store]) -> None:
    """Reservations whose gateway is not heard of any more count as they were made; a living one's stay open."""
    clock = Clock()
    with closing(connect()) as first, closing(connect()) as second:
        dead, living = (
            Books(store, name, ttl_s=60, clock=clock) for store, name in ((first, "dead"), (second, "living"))
        )
        lost = [dead.reserve(NAME, CAP, tokens) for tokens in (10, 15)]
        mine = living.reserve(NAME, CAP, 20)
        clock.now += 40
        living.renew()
        assert living.settle_expired() == 0
        clock.now += 40
        assert living.settle_expired() == 2
        assert sums(living.account(NAME)) == (45, 25, 0, 20)
        dead.settle(lost[0], 1)  # it was not dead after all: too late
        living.settle(mine, 5)
        assert sums(living.account(NAME)) == (45, 30, 15, 0)


def test_many_gateways_never_pass_a_cap_together(connect: Callable[[], Store]) -> None:
    """Eight connections reserve and settle at random at the same time: the cap holds at every moment, the sums at the end."""
    limits, granted, lock = Limits(tokens=1000), [0], threading.Lock()

    def gateway(number: int) -> int:
        chance, took = random.Random(number), 0
        with closing(connect()) as store:
            books = Books(store, f"g{number}", ttl_s=600)
            start.wait()
            for _ in range(40):
                tokens = chance.randint(1, 60)
                try:
                    reservation = books.reserve(NAME, limits, tokens)
                except CortexError:
                    continue
                with lock:
                    granted[0] += tokens
                now = books.account(NAME)
                assert now.used + now.held <= 1000
                used = chance.randint(0, tokens)
                books.settle(reservation, used)
                took += used
        return took

    start = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        took = sum(pool.map(gateway, range(8)))
    with closing(connect()) as store:
        account = Books(store, "g", ttl_s=60).account(NAME)
    assert account.used == account.settled == took <= 1000
    assert took > 900  # the cap was in the way, and was used up
    assert sums(account) == (granted[0], took, granted[0] - took, 0)


def fail_half_way(store: Store) -> None:
    with store.transaction() as sql:
        sql("DELETE FROM cortex_accounts")
        sql("SELECT nothing FROM nowhere")


def test_a_refused_statement_undoes_its_transaction(connect: Callable[[], Store]) -> None:
    """All or nothing, and a store that failed goes on working."""
    with closing(connect()) as store:
        books = Books(store, "g", ttl_s=60)
        books.reserve(NAME, CAP, 10)
        before = books.account(NAME)
        with pytest.raises(StoreError):
            fail_half_way(store)
        assert books.account(NAME) == before
        with pytest.raises(StoreError):
            books.reserve(NAME, Limits(), 10**30)  # more than a database can count
        assert books.account(NAME) == before


def test_the_file_is_its_users_alone(tmp_path: Path) -> None:
    """Nobody else reads who spends what."""
    file = tmp_path / "state" / "ledger.sqlite"
    SqliteStore(file).close()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize("content", [b"this is no database" * 100, None])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    """A folder or a foreign file is a StoreError with its path."""
    file = tmp_path / "ledger.sqlite"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(StoreError, match=r"ledger\.sqlite"):
        SqliteStore(file)


def test_another_process_may_read_while_it_is_written(tmp_path: Path) -> None:
    """WAL: whoever looks at the ledger does not stop it."""
    file = tmp_path / "ledger.sqlite"
    with closing(SqliteStore(file)) as store, closing(sqlite3.connect(file)) as reader:
        books = Books(store, "g", ttl_s=60)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM cortex_accounts").fetchall()
        books.reserve(NAME, CAP, 10)
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)

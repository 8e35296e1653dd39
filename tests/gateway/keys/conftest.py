"""The ledger's stores: SQLite always, PostgreSQL where its server is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.postgres import binaries, running_postgres

from cortex.gateway.keys.ledger.sqlite import SqliteStore
from cortex.gateway.keys.ledger.store import Store


@pytest.fixture(scope="session")
def postgres_address() -> Iterator[str]:
    """A server of this session's own."""
    folder = binaries()
    if folder is None:
        pytest.skip("the PostgreSQL server is not installed (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not installed (the extra `postgres`)")
    with running_postgres(folder) as address:
        yield address


@pytest.fixture
def postgres(postgres_address: str) -> str:
    """The server's address, with nothing of an earlier test in it."""
    import psycopg

    with psycopg.connect(postgres_address) as connection:
        connection.execute("DROP TABLE IF EXISTS cortex_accounts, cortex_reservations")
    return postgres_address


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What `[entitlements] database` says, of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.sqlite")
    address: str = request.getfixturevalue("postgres")
    return address


@pytest.fixture
def connect(database: str) -> Callable[[], Store]:
    """Another connection to the same store."""
    if "://" not in database:
        return lambda: SqliteStore(Path(database))
    from cortex.gateway.keys.ledger.postgres import PostgresStore

    return lambda: PostgresStore(database)

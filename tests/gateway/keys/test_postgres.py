"""What only PostgreSQL can do wrong: be away, be slow, and tell its password."""

from __future__ import annotations

from contextlib import closing

import pytest
from benchmarks.ports import free_port
from helpers.postgres import PASSWORD

from cortex.gateway.keys.ledger.books import Books
from cortex.gateway.keys.ledger.postgres import PostgresStore, parsed
from cortex.gateway.keys.ledger.store import StoreError
from cortex.gateway.keys.policy import Limits


def test_no_failure_tells_the_password(postgres: str) -> None:
    """A wrong password, a missing database, nobody there, an address that cannot be read: told without it."""
    wrong = "sk-wrong-password"
    for address in (
        postgres.replace(PASSWORD, wrong),
        postgres.replace("/postgres", "/absent"),
        f"postgresql://u:{wrong}@127.0.0.1:{free_port()}/d",
        f"postgresql://u:{wrong}%zz@127.0.0.1/d",
        f"postgresql://u:{wrong}@127.0.0.1/d?nonsense={wrong}",
    ):
        with pytest.raises(StoreError) as failed:
            PostgresStore(address)
        assert wrong not in str(failed.value)
        assert PASSWORD not in str(failed.value)
        assert failed.value.__cause__ is None
        assert failed.value.__suppress_context__


def test_the_operators_own_settings_stay() -> None:
    """What the address says wins over our time-outs."""
    assert parsed("postgresql://h/d?connect_timeout=9")["connect_timeout"] == "9"


def test_a_row_that_another_transaction_holds_is_given_up(postgres: str) -> None:
    """A lock that is never freed is an error after a time, not a hang."""
    impatient = postgres + "?options=-c%20lock_timeout%3D200"
    with closing(PostgresStore(postgres)) as holder, closing(PostgresStore(impatient)) as other:
        name = ("a", "k")
        Books(holder, "g1", ttl_s=60).reserve(name, Limits(tokens=9), 1)
        with holder.transaction() as sql:
            sql("SELECT * FROM cortex_accounts FOR UPDATE")
            with pytest.raises(StoreError, match="lock timeout"):
                Books(other, "g2", ttl_s=60).reserve(name, Limits(tokens=9), 1)
        Books(other, "g2", ttl_s=60).reserve(name, Limits(tokens=9), 1)

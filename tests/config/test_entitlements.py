"""`[entitlements]`: every mistake has a name, and no secret is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from cortex.config.gateway import GatewayConfig, load_gateway_config
from cortex.config.loader import ConfigError, validate

SECRET = "sk-never-shown"
DIGEST = "ab" * 32


def config(**entitlements):
    return validate(GatewayConfig, {"entitlements": entitlements}, source="test").entitlements


@pytest.mark.parametrize(
    ("entitlements", "words"),
    [
        ({"keys": [{"account_id": "a"}]}, "either sha256 or key"),
        ({"keys": [{"account_id": "a", "key": SECRET, "sha256": DIGEST}]}, "either sha256 or key"),
        ({"keys": [{"account_id": "a", "sha256": SECRET}]}, "sha256: String should match"),
        ({"keys": [{"account_id": "a b", "sha256": DIGEST}]}, "account_id: String should match"),
        ({"keys": [{"account_id": "a", "key": SECRET, "window": {"kind": "rolling"}}]}, "a rolling window has seconds"),
        ({"keys": [{"account_id": "a", "key": SECRET, "window": {"seconds": 5}}]}, "a rolling window has seconds"),
        ({"keys": [{"account_id": "a", "key": SECRET, "hard_kap": 5}]}, "did you mean 'hard_cap'"),
        ({"keys": [{"account_id": x, "key": SECRET} for x in "ab"]}, "secret of 'b' is there twice"),
        (
            {"keys": [{"account_id": "a", "key": SECRET}, {"account_id": "a", "sha256": DIGEST, "hard_cap": 5}]},
            "two keys with one key_id and different limits",
        ),
        ({"database": f"mysql://u:{SECRET}@h/d"}, "postgresql://user:password@host/database"),
        ({"database": ""}, "the path of a SQLite file"),
    ],
)
def test_a_mistake_is_named_without_its_secret(entitlements, words):
    """The key at fault and what would be right, but never what a secret is."""
    with pytest.raises(ConfigError, match=words) as mistake:
        config(**entitlements)
    assert SECRET not in str(mistake.value)


def test_no_secret_is_shown():
    """Neither a key nor a database's password is in a representation."""
    parsed = config(keys=[{"account_id": "a", "key": SECRET}], database=f"postgresql://u:{SECRET}@h/d")
    assert SECRET not in repr(parsed)
    assert SECRET not in str(parsed.model_dump())


def test_a_ledgers_file_is_beside_the_configuration(tmp_path: Path):
    """A relative path begins where the file is; an address stays as it is."""
    file = tmp_path / "cortex.toml"
    file.write_text('[entitlements]\ndatabase = "ledger.sqlite"\n')
    database = load_gateway_config(file, environ={}).entitlements.database
    assert database is not None
    assert database.get_secret_value() == str(tmp_path / "ledger.sqlite")
    address = "postgresql://u:p@h/d"
    database = load_gateway_config(file, environ={"CORTEX_ENTITLEMENTS__DATABASE": address}).entitlements.database
    assert database is not None
    assert database.get_secret_value() == address


def test_the_first_generations_file_is_understood():
    """Its keys, windows and defaults mean what they meant."""
    parsed = config(
        require_auth=True,
        keys=[
            {"key": SECRET, "account_id": "acme", "hard_cap": 5000, "window": {"kind": "balance"}},
            {"key": SECRET + "2", "account_id": "acme", "key_id": "ci", "window": {"kind": "rolling", "seconds": 60}},
        ],
    )
    assert [key.name for key in parsed.keys] == [("acme", "acme"), ("acme", "ci")]
    assert [key.is_limited for key in parsed.keys] == [True, False]

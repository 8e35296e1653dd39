"""From headers to a principal."""

from __future__ import annotations

import hashlib

import pytest

from cortex.config.entitlements import EntitlementsSection
from cortex.errors import CortexError
from cortex.gateway.keys.keyring import Keyring

ALICE, BOB = "sk-alice", "sk-bob"
KEYS = [
    {"sha256": hashlib.sha256(ALICE.encode()).hexdigest().upper(), "account_id": "alice"},
    {"key": BOB, "account_id": "bob", "key_id": "bob-laptop"},
]


def keyring(*, require_auth=True, keys=KEYS):
    return Keyring(EntitlementsSection.model_validate({"require_auth": require_auth, "keys": keys}))


@pytest.mark.parametrize(
    ("headers", "who"),
    [
        ([("authorization", f"Bearer {ALICE}")], "alice"),
        ([("Authorization", f"bearer  {ALICE} ")], "alice"),
        ([("x-api-key", ALICE)], "alice"),
        ([("X-Api-Key", ALICE), ("authorization", f"Bearer {ALICE}")], "alice"),
        ([("authorization", f"Bearer {BOB}")], "bob-laptop"),
        ([("x-api-key", ALICE), ("authorization", "Bearer placeholder")], "alice"),
    ],
)
def test_a_key_is_known_in_either_header(headers, who):
    """Bearer or x-api-key or both; a placeholder beside a real key does no harm."""
    for required in (True, False):
        principal = keyring(require_auth=required).identify(headers)
        assert principal is not None
        assert principal.key_id == who


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer nonsense")],
        [("authorization", ALICE)],  # no scheme
        [("authorization", f"Basic {ALICE}")],
        [("x-api-key", "")],
        [("x-api-key", hashlib.sha256(ALICE.encode()).hexdigest())],  # what the file says is not the key
        [("x-api-key", "\udcff\udcfe")],
    ],
)
def test_whoever_has_no_key_is_anonymous_or_refused(headers):
    """Without require_auth an unknown key is a placeholder; with it 401."""
    assert keyring(require_auth=False).identify(headers) is None
    with pytest.raises(CortexError) as refused:
        keyring().identify(headers)
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")
    assert ALICE not in refused.value.message


def test_two_principals_at_once_are_refused():
    """Nobody guesses which of two accounts pays."""
    headers = [("x-api-key", ALICE), ("authorization", f"Bearer {BOB}")]
    for required in (True, False):
        with pytest.raises(CortexError, match="two accounts"):
            keyring(require_auth=required).identify(headers)


def test_two_secrets_may_be_one_key():
    """While a key is exchanged, the old and the new secret are one principal."""
    keys = [{"key": secret, "account_id": "alice", "hard_cap": 5} for secret in ("old-one", "new-one")]
    both = keyring(keys=keys)
    assert both.identify([("x-api-key", "old-one")]) == both.identify([("x-api-key", "new-one")])


def test_a_key_in_plain_text_is_warned_of_and_not_told(caplog):
    """The first generation's `key` works; the log names the account, never the key."""
    keyring()
    assert "'bob' has its key in plain text" in caplog.text
    assert "alice" not in caplog.text
    assert BOB not in caplog.text


@pytest.mark.parametrize(
    ("models", "name", "allowed"),
    [
        (("*",), "org/m", True),
        (("org/*",), "org/m", True),
        (("org/*",), "other/m", False),
        (("org/m",), "org/m-large", False),
        (("small", "org/*"), "small", True),
        (("ORG/m",), "org/m", False),
    ],
)
def test_models_are_allowed_by_pattern(models, name, allowed):
    """`*` stands for any letters, slashes too; case counts."""
    principal = keyring(keys=[{**KEYS[0], "models": models}]).identify([("x-api-key", ALICE)])
    assert principal is not None
    assert principal.may_use(name) is allowed

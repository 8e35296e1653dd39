"""`cortex key new`: what it prints can be used as it stands."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tomllib

import pytest

from cortex.config.gateway import GatewayConfig
from cortex.gateway.keys.keyring import Keyring


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cortex", "key", "new", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_lines_let_the_secret_in() -> None:
    """stdout is TOML for cortex.toml, without the secret; stderr has the secret, once."""
    done = run("alice")
    assert done.returncode == 0
    (secret,) = [word for word in done.stderr.split() if word.startswith("sk-cortex-")]
    assert secret not in done.stdout
    config = GatewayConfig.model_validate(tomllib.loads(done.stdout))
    principal = Keyring(config.entitlements).identify([("x-api-key", secret)])
    assert principal is not None
    assert (principal.account_id, principal.key_id) == ("alice", "alice")


def test_every_key_is_another() -> None:
    """Two calls have nothing in common, and a name with quotes stays TOML."""
    told = [json.loads(run('a"\\b', "--json").stdout) for _ in range(2)]
    assert told[0]["key"] != told[1]["key"]
    for each in told:
        assert each["sha256"] == hashlib.sha256(each["key"].encode()).hexdigest()
    assert tomllib.loads(run('a"\\b').stdout)["entitlements"]["keys"][0]["account_id"] == 'a"\\b'


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 129])
def test_a_name_that_no_header_can_carry_is_refused(name: str) -> None:
    """One sentence and exit code 2."""
    done = run(name)
    assert done.returncode == 2
    assert "is no account's name" in done.stderr
    assert done.stdout == ""

"""Who runs a service may not read what who started it may: that is said with the user, the place, and what would help."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cortex.config import access

ROOT_IS_NEVER_REFUSED = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


READ = """
import os, sys
from pathlib import Path
from cortex.config import access
os.setgid(65534)  # nobody, who may not even read Python's own modules everywhere: they are loaded by now
os.setuid(65534)
path = Path(sys.argv[1])
try:
    path.read_text() if path.suffix else list(path.iterdir())
    print("read")
except OSError as error:
    print(access.why_not(path, error))
"""


def read_by_nobody(path):
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def open_folder():
    """One that everybody may enter; pytest's own are for their user alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@ROOT_IS_NEVER_REFUSED
def test_the_first_obstacle_on_the_way_is_named(open_folder):
    """A folder above that may not be entered, the folder or the file itself."""
    closed = open_folder / "closed"
    (closed / "models").mkdir(parents=True)
    closed.chmod(0o700)
    secret = open_folder / "secret.toml"
    secret.write_text("[gateway]")
    secret.chmod(0o600)
    lets = "`setfacl -m u:nobody:{} {}` lets it"
    for path, blocked, wanted in ((closed / "models", closed, "rx"), (closed, closed, "rx"), (secret, secret, "r")):
        told = read_by_nobody(path)
        assert told == f"Permission denied to user 'nobody' at {blocked} ({lets.format(wanted, blocked)})"
    secret.chmod(0o644)
    assert read_by_nobody(secret) == "read"


def test_other_failures_keep_their_words(tmp_path):
    """Nothing is said of rights where they are not what is missing."""
    error = FileNotFoundError(2, "No such file or directory")
    assert access.why_not(tmp_path / "absent", error) == "No such file or directory"
    assert access.obstacle(tmp_path) is None


def test_a_refusal_that_rights_do_not_explain_says_so(tmp_path):
    """SELinux, or a unit that hides folders."""
    told = access.why_not(tmp_path, PermissionError(13, "Permission denied"))
    assert told.endswith("whose rights would do: SELinux or the unit's settings forbid it")
    assert access.user() in told

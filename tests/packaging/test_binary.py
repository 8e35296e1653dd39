"""The one file that build/compile makes: it unpacks once, to where only its user can write, and runs with nothing else there."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.one_file import BINARY, wanted

from cortex.cli.outcome import Exit

ROOT = Path(__file__).parent.parent.parent
SUITE = os.environ.get("CORTEX_TEST_SUITE", "bookworm")  # Debian's name of the empty host

pytestmark = [
    pytest.mark.slow,
    wanted,
]


def start(*arguments, binary=BINARY, **environ):
    command = [str(binary), *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)


def versions(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def cache(tmp_path):
    """A directory that is ours alone."""
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    return folder


def test_it_does_what_it_should():
    """The build's own test: both roles, an engine, a streamed answer, and no engine left behind."""
    command = [sys.executable, "-m", "binary.selftest", str(BINARY)]
    path = f"{ROOT / 'build'}:{ROOT / 'tests'}"
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_says_what_it_is(cache):
    """A binary knows its flavour, the backends that it carries, its commit and time."""
    facts = json.loads(start("version", "--json", CORTEX_UNPACK_DIR=str(cache)).stdout)
    assert facts["kind"] == "binary"
    assert facts["flavour"]
    assert "backends" in facts
    assert facts["built_at"].endswith("Z")
    assert facts["harnesses"]["llamacpp"]


def test_starts_at_the_same_time_unpack_one_version(cache):
    """Each is served, and nothing half is left."""
    command = [str(BINARY), "version"]
    with contextlib.ExitStack() as stack:
        starts = [
            stack.enter_context(
                subprocess.Popen(command, env={"CORTEX_UNPACK_DIR": str(cache)}, stdout=subprocess.PIPE)
            )
            for _ in range(4)
        ]
        assert [process.wait(timeout=100) for process in starts] == [0] * 4
    assert len(versions(cache)) == 1


def test_a_service_unpacks_to_its_cache_directory(cache):
    """systemd's CACHE_DIRECTORY comes first, its first entry; no HOME is needed."""
    assert start("version", CACHE_DIRECTORY=f"{cache}:/elsewhere", HOME="/nonexistent").returncode == 0
    assert len(versions(cache)) == 1


def test_a_user_unpacks_below_their_cache(tmp_path):
    """`~/.cache/cortex`, or XDG_CACHE_HOME."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    assert start("version", HOME=str(home)).returncode == 0
    assert len(versions(home / ".cache" / "cortex")) == 1


def test_a_directory_that_others_may_write_to_is_refused(tmp_path):
    """What lies there is executed: nobody else may put something there, or have put it there."""
    for name, mode, told in (
        ("open", 0o777, "others may write to it"),
        ("below/open", 0o700, "everybody may write to"),
    ):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        if "/" in name:
            folder.parent.chmod(0o777)
        folder.chmod(mode)
        done = start("version", CORTEX_UNPACK_DIR=str(folder))
        assert done.returncode == Exit.usage
        assert told in done.stderr
        assert versions(folder) == []


def test_a_file_that_was_damaged_on_its_way_is_refused(tmp_path, cache):
    """A flipped bit, or a copy that broke off: one sentence, and nothing is left."""
    content = bytearray(BINARY.read_bytes())
    content[len(content) // 2] ^= 1
    broken = tmp_path / "broken"
    for damaged in (content, content[: len(content) // 2]):
        broken.write_bytes(damaged)
        broken.chmod(0o755)
        done = start("version", binary=broken, CORTEX_UNPACK_DIR=str(cache))
        assert done.returncode == Exit.damaged
        assert "damaged" in done.stderr
        assert versions(cache) == []


def test_versions_that_nobody_uses_any_more_are_removed(cache):
    """Unpacking another version removes those that have rested for a week; one that runs is kept, and so is anything else."""
    resting, running, strange = cache / ("a" * 32), cache / ("b" * 32), cache / "notes"
    for folder in (resting, running, strange):
        folder.mkdir()
        (folder / "file").touch()
        last_week = time.time() - 8 * 24 * 3600
        os.utime(folder, (last_week, last_week))
    with contextlib.ExitStack() as stack:
        lock = os.open(running, os.O_RDONLY)
        stack.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert start("version", CORTEX_UNPACK_DIR=str(cache)).returncode == 0
    assert not resting.exists()
    assert running.exists()
    assert strange.exists()
    assert len(versions(cache)) == 3


# ---- a host that has nothing else

EMPTY_HOST = r"""
set -e
ip link set lo up
mount -t proc proc "$1/proc"
exec chroot "$1" /bin/sh -c '
  export HOME=/root
  printf "[[default_models]]\nmodel_id = \"$MODEL\"\nchat_template = \"chatml\"\nthreads = 1\n" > /neuron.toml
  /cortex --role neuron --config /neuron.toml --models-dir /models 2>/neuron.log & neuron=$!
  printf "[[neurons]]\nname = \"here\"\nendpoint = \"http://127.0.0.1:13131\"\n[gateway]\npoll_interval_secs = 1\n" > /cortex.toml
  /cortex --role gateway --config /cortex.toml 2>/gateway.log & gateway=$!
  for i in $(seq 600); do
    /cortex status > /status 2>&1 && grep -q "$MODEL *here *loaded" /status && break
    sleep 0.2
  done
  cat /status
  for i in 1 2 3 4 5; do  # at its temperature a model of this size misses Paris one time in ten
    /cortex validate 127.0.0.1 "$MODEL" ignored > /answer.json 2>/validate.log && break
  done
  echo "validate $?"
  kill -TERM $gateway $neuron
  wait $gateway; echo "gateway $?"
  wait $neuron; echo "neuron $?"
'
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may enter another root")
@pytest.mark.skipif(shutil.which("debootstrap") is None, reason="debootstrap is not installed")
@pytest.mark.timeout(600)
def test_it_runs_on_a_host_that_has_nothing_else_and_no_network(tmp_path, demo_model):
    """No Python, no network: both roles run, the probe says Paris, and SIGTERM ends both cleanly."""
    root = tmp_path / "root"
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", SUITE, str(root)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"debootstrap cannot make an empty root here: {made.stdout[-300:]}")
    assert not list(root.glob("usr/bin/python3*"))
    shutil.copy(BINARY, root / "cortex")
    (root / "models").mkdir()
    shutil.copy(demo_model, root / "models")
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "bash", "-c", EMPTY_HOST, "empty-host", str(root)]
    environ = {"PATH": os.environ["PATH"], "MODEL": demo_model.stem}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=400, check=False)
    logs = "".join(
        f"---- {name}\n{(root / name).read_text()}" for name in ("neuron.log", "gateway.log", "validate.log")
    )
    said = done.stdout + done.stderr
    assert {"validate 0", "gateway 0", "neuron 0"} <= set(done.stdout.splitlines()), said + logs
    assert "paris" in (root / "answer.json").read_text().lower()

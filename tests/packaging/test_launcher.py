"""The start of the one file, around a small program: what is unpacked is whole, has room, and stays for as long as it runs."""

import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import time

import pytest
from binary import environment, payload

from cortex.cli.outcome import Exit

SHOP = environment.caches() / "cpu"
PROGRAM = "#!/bin/sh\necho hello\n[ $# = 0 ] || read -r _\n"
NOISE = random.Random(1).randbytes(1_000_000)
LARGE_MB = 200

pytestmark = [
    pytest.mark.skipif(
        not (SHOP / "venv").exists(),
        reason=f"zstd's sources come with build/compile, which has not been run: no {SHOP}",
    ),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]
needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0
    or subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0,
    reason="only root may mount, and not everywhere",
)


@pytest.fixture(scope="module")
def one_file(tmp_path_factory):
    """Makes a file of a program with one library of noise and one of so many MB of zeros."""
    folder = tmp_path_factory.mktemp("one-file")
    (folder / "venv").symlink_to(SHOP / "venv")

    def make(name, zeros_mb=0):
        program = folder / f"program-{name}"
        (program / "lib").mkdir(parents=True)
        (program / "cortex").write_text(PROGRAM)
        (program / "cortex").chmod(0o755)
        (program / "lib" / "noise").write_bytes(NOISE)
        with (program / "lib" / "zeros").open("wb") as zeros:
            zeros.truncate(zeros_mb * 1_000_000)
        payload.pack(environment.Workshop(folder), program, folder / name, level=1)
        return folder / name

    return make


@pytest.fixture(scope="module")
def small(one_file):
    return one_file("small")


@pytest.fixture(scope="module")
def large(one_file):
    """As a CUDA flavour is: little to copy, much to unpack."""
    made = one_file("large", LARGE_MB)
    assert made.stat().st_size < 5_000_000
    return made


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    return folder


def start(file, base, *command, **environ):
    told = {"PATH": os.environ["PATH"], "CORTEX_UNPACK_DIR": str(base)} | environ
    done = subprocess.run([*command, file], env=told, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


@contextlib.contextmanager
def running(file, base):
    """It has unpacked itself, and runs until the end of the block."""
    environ = {"CORTEX_UNPACK_DIR": str(base), "PATH": os.environ["PATH"]}
    with subprocess.Popen([file, "wait"], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == b"hello\n"
        yield
        process.stdin.write(b"\n")


def versions(base):
    return [path for path in base.iterdir() if not path.name.startswith(".unpack-")]


def begun(base):
    return [path for path in base.iterdir() if path.name.startswith(".unpack-")]


def test_what_went_missing_or_was_cut_is_unpacked_anew(small, base):
    """Cleaners of old files take some and leave others; a program without all of its files is never run."""
    assert start(small, base) == (0, "hello\n")
    (version,) = versions(base)
    for harm in (
        (version / "lib" / "noise").unlink,
        lambda: os.truncate(version / "lib" / "noise", 1000),
        (version / "cortex").unlink,
        (version / ".files").unlink,
    ):
        harm()
        assert start(small, base) == (0, "hello\n")
        assert (version / "lib" / "noise").read_bytes() == NOISE
        assert begun(base) == []


def test_what_still_runs_is_set_aside_and_not_removed(small, base):
    """Unpacking anew takes nothing from a program that runs; the next unpacking after its end removes it."""
    with running(small, base):
        (version,) = versions(base)
        (version / "lib" / "zeros").unlink()
        assert start(small, base) == (0, "hello\n")
        (aside,) = begun(base)
        assert (aside / "lib" / "noise").read_bytes() == NOISE
    (version / "lib" / "zeros").unlink()
    assert start(small, base) == (0, "hello\n")
    assert begun(base) == []


def test_a_start_that_was_killed_while_it_unpacked_leaves_nothing_that_runs(small, base):
    """What is half is not run, and the next start takes it away."""
    limit = len(NOISE) // 2 // 512  # blocks of 512 bytes: writing more is a signal, in the middle of a file
    code, _said = start(small, base, "sh", "-c", f'ulimit -c 0; ulimit -f {limit}; exec "$0"')
    assert code == -signal.SIGXFSZ
    assert versions(base) == []
    (left,) = begun(base)
    assert start(small, base) == (0, "hello\n")
    assert not left.exists()


def test_a_start_waits_for_another_one_that_unpacks(small, base):
    """It says so, and asks systemd for time; large programs are not unpacked twice at once."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, contextlib.ExitStack() as stack:
        manager.bind(str(base.parent / "notify"))
        manager.settimeout(60)
        lock = os.open(base, os.O_RDONLY)
        stack.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        environ = {"CORTEX_UNPACK_DIR": str(base), "NOTIFY_SOCKET": manager.getsockname()}
        with subprocess.Popen(
            [small], env=environ, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr
            assert process.stderr.readline() == f"cortex: another start is unpacking to {base}: waiting for it\n"
            assert manager.recv(300).decode().split("\n") == [
                "STATUS=another start is unpacking",
                "EXTEND_TIMEOUT_USEC=600000000",
            ]
            assert list(base.iterdir()) == []
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert process.wait(timeout=60) == 0
    assert len(versions(base)) == 1


def test_a_directory_may_be_named_by_a_link(small, base):
    """It is followed once: what lies behind it is looked at, and used."""
    link = base.parent / "link"
    link.symlink_to(base)
    for _ in range(2):
        assert start(small, link) == (0, "hello\n")
    assert len(versions(base)) == 1
    link.unlink()
    link.symlink_to(base.parent / "nowhere")
    code, said = start(small, link)
    assert code == Exit.usage
    assert f"{link}: it is no directory" in said


def test_a_directory_that_is_no_absolute_path_is_a_mistake(small, base):
    """Nothing is unpacked somewhere else in its place."""
    code, said = start(small, "cache", HOME=str(base))
    assert code == Exit.usage
    assert said == "cortex: CORTEX_UNPACK_DIR is 'cache', and an absolute path is wanted\n"
    assert list(base.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder to another user")
def test_nothing_is_made_in_the_folder_of_another_user(small, base):
    """As root may find it named by HOME: a folder of root's would keep its owner from unpacking there."""
    os.chown(base, 65534, 65534)
    code, said = start(small, base / ".cache" / "cortex")
    assert code == Exit.usage
    assert f"{base} belongs to another user" in said
    assert list(base.iterdir()) == []


# ---- disks that will not do


def mounted(options, file, *, before="", **environ):
    """Started with a file system of its own at /mnt: exit code, and what was said, with what lies there afterwards."""
    script = f'mount -t tmpfs -o mode=700,{options} none /mnt; {before or ":"}; "$0"; code=$?; ls -A /mnt; exit $code'
    return start(file, "/mnt", "unshare", "--mount", "sh", "-c", script, **environ)


@needs_mounts
def test_a_disk_without_room_is_told_before_anything_is_written(large):
    """The sentence names the directory, what is needed and what is free; starting again may help, once there is room."""
    code, said = mounted("size=20m", large)
    assert code == Exit.failed
    assert said == (
        f"cortex: there is no directory to unpack to (/mnt: {LARGE_MB + 9} MB are needed, and 20 MB are free); "
        "make room there, or name one that only this user can write with CORTEX_UNPACK_DIR\n"
    )


@needs_mounts
def test_what_was_left_half_makes_room_first(large):
    """A start that was killed has filled the disk: the next one does not fail of that."""
    before = "mkdir /mnt/.unpack-abcdef && head -c 150000000 /dev/zero > /mnt/.unpack-abcdef/half"
    code, said = mounted("size=300m", large, before=before)
    assert code == 0
    assert said.startswith("hello\n")
    assert ".unpack" not in said


@needs_mounts
@pytest.mark.parametrize(
    ("options", "told"), [("noexec", "it is mounted noexec"), ("ro", "Read-only file system")], ids=["noexec", "ro"]
)
def test_a_disk_that_no_program_can_be_unpacked_to_is_named(small, options, told):
    """Starting again does not help; nothing was written."""
    code, said = mounted(options, small)
    assert code == Exit.usage
    assert said.startswith(f"cortex: there is no directory to unpack to (/mnt: {told})")
    assert said.count("\n") == 1


@needs_mounts
def test_a_service_says_where_it_unpacked_to_instead(small, tmp_path):
    """Its own cache directory cannot be used, another one can: it runs, and the journal has the reason."""
    code, said = mounted("noexec", small, CORTEX_UNPACK_DIR="", CACHE_DIRECTORY="/mnt", XDG_CACHE_HOME=str(tmp_path))
    assert code == 0
    assert said == (
        f"hello\ncortex: unpacked to {tmp_path}/cortex, as another directory cannot be used: /mnt: it is mounted noexec\n"
    )


# ---- what others do meanwhile


def test_systemd_waits_while_much_is_written(large, base):
    """Its time-out for a start is extended until the disk has it all."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(base.parent / "notify"))
        assert start(large, base, NOTIFY_SOCKET=manager.getsockname()) == (0, "hello\n")
        told = []
        manager.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                told.append(manager.recv(300).decode().split("\n"))
    assert told[-1] == ["STATUS=unpacked; the disk takes its time", "EXTEND_TIMEOUT_USEC=600000000"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may clean up as systemd does")
@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="systemd-tmpfiles is not installed")
def test_systemd_s_cleaning_of_old_files_leaves_alone_what_runs(small, base):
    """Files below /var/tmp that nobody has touched for a month are removed, but not those of a program that runs."""
    rules = base.parent / "clean.conf"
    rules.write_text(f"d {base} - - - mM:1d\n")

    def clean():
        for path in [*base.rglob("*"), base]:
            os.utime(path, (time.time() - 40 * 24 * 3600,) * 2)
        done = subprocess.run(["systemd-tmpfiles", "--clean", rules], capture_output=True, text=True, check=False)
        if "Invalid age" in done.stderr:
            pytest.skip("this systemd-tmpfiles cannot be told which times count")
        assert done.returncode == 0, done.stderr

    with running(small, base):
        (version,) = versions(base)
        clean()
        assert (version / "lib" / "noise").exists()
    clean()
    assert not (version / "lib" / "noise").exists()
    assert start(small, base) == (0, "hello\n")

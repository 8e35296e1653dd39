"""A real PostgreSQL server for a test session, from Debian's or Fedora's package, which refuses to run as root."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ports import free_port
from helpers import processes

PASSWORD = "pg-secret-73"
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/bin")
START_S = 30.0


def binaries() -> Path | None:
    """The folder with `initdb` and `postgres`; None where the server is not installed."""
    folders = [folder for place in PLACES for folder in sorted(Path("/").glob(place.lstrip("/")), reverse=True)]
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@contextlib.contextmanager
def running_postgres(bin_folder: Path) -> Iterator[str]:
    """An empty server on a free port of this host; its address, with a password in it."""
    user = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="cortex-pg-"))
    try:
        if user:
            shutil.chown(folder, user)
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        options = ["-U", "cortex", "-A", "scram-sha-256", "--pwfile", str(folder / "password"), "--no-sync"]
        initdb = [str(bin_folder / "initdb"), "-D", str(folder / "data"), "--no-locale", "-E", "UTF8", *options]
        subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=folder, timeout=60)
        with _server(bin_folder, folder, user) as port:
            yield f"postgresql://cortex:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _server(bin_folder: Path, folder: Path, user: str | None) -> Iterator[int]:
    port = free_port()
    settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
    command = [str(bin_folder / "postgres"), "-D", str(folder / "data"), "-p", str(port)]
    command += [word for setting in settings for word in ("-c", setting)]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log, user=user, cwd=folder) as process:
        try:
            processes.keep(process.pid)
            _wait_until_ready(process, folder, port)
            yield port
        finally:
            process.send_signal(signal.SIGINT)  # its word for "end what is open and stop"


def _wait_until_ready(process: subprocess.Popen[bytes], folder: Path, port: int) -> None:
    import psycopg

    end = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(f"postgresql://cortex:{PASSWORD}@127.0.0.1:{port}/postgres", connect_timeout=5).close()
        except psycopg.OperationalError:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.05)
        else:
            return


def _unprivileged() -> str | None:
    """Whom the server runs as: None is ourselves."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"

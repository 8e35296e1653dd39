"""Where engine sockets live: a folder that only this user can enter, made at start and removed at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

LONGEST_SOCKET = 107 - len("/engine-99999.sock")  # sun_path holds 108 bytes with its end


class RuntimeDirError(Exception):
    """The folder cannot be used; the message says why and which key changes it."""


@contextlib.contextmanager
def runtime_directory(configured: Path | None) -> Iterator[Path]:
    """A fresh private folder below the configured one, systemd's RUNTIME_DIRECTORY, XDG_RUNTIME_DIR, or the temporary folder."""
    base = configured or _from_environment()
    try:
        if base:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="cortex-", dir=base))
    except OSError as error:
        raise RuntimeDirError(
            f"the runtime directory {base} cannot be used ({error.strerror}); set runtime_dir to one that this user may write"
        ) from error
    try:
        if len(os.fsencode(folder)) > LONGEST_SOCKET:
            raise RuntimeDirError(
                f"{folder} is too long for a socket's address ({LONGEST_SOCKET} bytes); set runtime_dir to a shorter path"
            )
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _from_environment() -> Path | None:
    if systemd := os.environ.get("RUNTIME_DIRECTORY"):
        return Path(systemd.partition(":")[0])
    user = os.environ.get("XDG_RUNTIME_DIR")
    return Path(user) / "cortex" if user and os.access(user, os.W_OK) else None

"""What this process's user may not do with a path, and what would let it: who starts a service is seldom who it runs as."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path


def user() -> str:
    """The name of whom this process runs as; a number where it has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def why_not(path: Path, error: OSError) -> str:
    """`error` in words; where rights are missing: whose, at what, and what would give them."""
    reason = error.strerror or str(error)
    if not isinstance(error, PermissionError):
        return reason
    blocked = obstacle(path)
    if blocked is None:
        return f"{reason} to user '{user()}', whose rights would do: SELinux or the unit's settings forbid it"
    wanted = "rx" if blocked.is_dir() else "r"
    return f"{reason} to user '{user()}' at {blocked} (`setfacl -m u:{user()}:{wanted} {blocked}` lets it)"


def obstacle(path: Path) -> Path | None:
    """The first of `path` and the folders above it that this user may not enter or read; None where it may, as root may."""
    path = path.absolute()
    for folder in reversed(path.parents):
        if not os.access(folder, os.X_OK):
            return folder
    try:
        wanted = os.R_OK | os.X_OK if stat.S_ISDIR(path.stat().st_mode) else os.R_OK
    except OSError:
        return None
    return None if os.access(path, wanted) else path

"""Whether a disk has room for what is to come, asked before the first byte."""

from __future__ import annotations

import shutil
from pathlib import Path

from cortex.errors import CortexError

MIB = 1 << 20
SPARE_BYTES = 256 * MIB  # what is left free on the disk


def check_room(folder: Path, needed: int, name: str) -> None:
    """Raises CortexError (507) when `needed` bytes more would fill the disk of `folder`. `name` is what they are for."""
    free = shutil.disk_usage(folder).free - SPARE_BYTES
    if needed > free:
        raise no_room(name, needed, free, folder)


def no_room(name: str, needed: int, free: int, folder: Path) -> CortexError:
    """507: permanent until somebody makes room."""
    needed_mb, free_mb = -(-needed // MIB), max(0, free // MIB)
    return CortexError(
        f"'{name}' needs {needed_mb} MiB more on the disk of {folder}, and {free_mb} MiB are free there",
        status=507,
        code="insufficient_storage",
        extras={"required_mb": needed_mb, "free_mb": free_mb},
    )

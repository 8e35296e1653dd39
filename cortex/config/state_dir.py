"""Where a role keeps what is to outlive it."""

from __future__ import annotations

import os
from pathlib import Path


def state_directory(configured: Path | None) -> Path | None:
    """The configured folder, systemd's STATE_DIRECTORY, or the user's state folder; None where there is no home."""
    if configured:
        return configured
    if systemd := os.environ.get("STATE_DIRECTORY"):
        return Path(systemd.partition(":")[0])
    if home := os.environ.get("XDG_STATE_HOME"):
        return Path(home) / "cortex"
    return Path(os.environ["HOME"]) / ".local/state/cortex" if os.environ.get("HOME") else None

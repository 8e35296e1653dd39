"""What exactly runs here: the answer of `cortex version` and of `GET /version` in both roles."""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from cortex import __version__


@functools.cache
def version_info() -> dict[str, Any]:
    """`{package_version, kind: "source"|"binary", git_sha|null, python, platform, harnesses: {name: library version}}`"""
    return {
        "package_version": __version__,
        "kind": "binary" if "__compiled__" in globals() else "source",
        "git_sha": _git_sha(),
        "python": platform.python_version(),
        "platform": f"{platform.system().lower()}-{platform.machine()}",
        "harnesses": {"llamacpp": _installed("xllamacpp")},
    }


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_sha() -> str | None:
    """The commit of a checkout; an installed package has none."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()

"""What exactly runs here: the answer of `cortex version` and of `GET /version` in both roles."""

from __future__ import annotations

import functools
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from cortex import __version__
from cortex.build_info import BUILD_INFO


@functools.cache
def version_info() -> dict[str, Any]:
    """`{package_version, kind, flavour, backends, git_sha, built_at, python, platform, harnesses: {name: library version}, llama_cpp}`

    kind       "binary" or "source"; flavour, backends and built_at are null for source
    backends   what is packed for newer processors and GPUs: "zen4 icelake cuda-13.0"; null: nothing
    llama_cpp  llama.cpp's build, e.g. "b11549"
    """
    library = _installed("xllamacpp")
    return {
        "package_version": __version__,
        "kind": "binary" if "__compiled__" in globals() else "source",
        "flavour": BUILD_INFO.get("flavour"),
        "backends": BUILD_INFO.get("backends"),
        "git_sha": BUILD_INFO.get("git_sha") or _git_sha(),
        "built_at": BUILD_INFO.get("built_at"),
        "python": platform.python_version(),
        "platform": f"{platform.system().lower()}-{platform.machine()}",
        "harnesses": {"llamacpp": library, "ctransformers": _installed("ctransformers")},
        "llama_cpp": llama_cpp_build(library),
    }


def llama_cpp_build(library: str | None) -> str | None:
    """The last number of xllamacpp's version (year.month.build): the library tells it nowhere else."""
    found = re.fullmatch(r"20\d\d\.\d+\.(\d{4,})(?:\D.*)?", library or "")
    return f"b{found[1]}" if found else None


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

"""The engine's library on disk: found and looked into without importing it."""

from __future__ import annotations

import importlib.util
import mmap
from pathlib import Path

NAME = "xllamacpp"


def folder() -> Path | None:
    """Its package's folder, in a compiled program as well; None: this installation does not have it."""
    found = importlib.util.find_spec(NAME)  # does not import it
    return Path(found.origin).parent if found and found.origin else None


def has_cuda() -> bool:
    """Whether it was compiled with CUDA in it."""
    package = folder()
    return any(map(_knows_cuda, sorted(package.glob("*.so*")))) if package else False


def _knows_cuda(library: Path) -> bool:
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"ggml_cuda") >= 0

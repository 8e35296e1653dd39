"""`models_dir/.incoming`: what is on its way into a folder of models, named by its content. No scan looks there.

A file is renamed from here to its place once it is whole and verified. What a broken transfer left is continued by the
next one, whoever brings it: from a hub, out of a bundle, from another neuron.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from cortex.neuron.models.source.download import Wanted
from cortex.neuron.models.source.locks import remove_free

NAME = ".incoming"
FORGOTTEN_S = 14 * 24 * 3600.0  # what nobody has continued for so long


class Incoming:
    """Of one folder. Nothing is made before something comes."""

    def __init__(self, models_dir: Path) -> None:
        self.folder = models_dir / NAME

    def wanted(self, content: str, size: int, sha256: str | None, url: str = "") -> Wanted:
        """`content` names it: its sha256, or what a hub has instead."""
        return Wanted(url, size, sha256, self.folder / content, self.folder / f"{content}.lock")

    def tidy(self) -> None:
        """Remove what is nobody's any more, and the folder if it is empty then. Blocks."""
        with contextlib.suppress(OSError):  # somebody else tidies as well, or is at work here
            for path in self.folder.iterdir():
                _remove_left(path)
            self.folder.rmdir()


def _remove_left(path: Path) -> None:
    """A lock that nobody holds, of a file that has come; or what nobody has touched for long."""
    if path.suffix == ".lock" and not path.with_suffix(".incomplete").exists():
        remove_free(path)
    elif path.stat().st_mtime < time.time() - FORGOTTEN_S:
        path.unlink()

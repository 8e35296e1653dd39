"""How to start this same program again: as Python source from any folder, or as the compiled executable.

A child must be of the very version of its parent, also while the files on disk are being replaced.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cortex

_RUNNING_IMAGE = "/proc/self/exe"  # Linux: what runs, not what lies at its path now; never the self-extracting file


def is_compiled() -> bool:
    """Whether Nuitka compiled this program."""
    return "__compiled__" in globals()


def self_command() -> list[str]:
    """The command that starts this program again; append arguments as a user would type them."""
    return [_RUNNING_IMAGE] if is_compiled() else _python("cortex.cli", "main")


def engine_command() -> list[str]:
    """The command of an engine process. From source it goes past the command line's imports: start-up is what counts here."""
    return [_RUNNING_IMAGE, "--role", "engine"] if is_compiled() else _python("cortex.neuron.engine.main", "run")


def _python(module: str, function: str) -> list[str]:
    """A checkout need not be installed, and a module in the caller's current folder must not be taken for one of ours (-P)."""
    root = str(Path(cortex.__file__).resolve().parent.parent)
    find_us = f"{root!r} in sys.path or sys.path.insert(0, {root!r})"
    return [
        sys.executable,
        "-P",
        "-c",
        f"import sys; {find_us}; from {module} import {function}; sys.exit({function}())",
    ]

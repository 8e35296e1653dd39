"""What the builder's commands share: progress on stderr, and how a build that could not be made ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from binary.flavours import Refused
from binary.tools import Missing


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fail(name: str, message: str, status: int = 1) -> int:
    say(f"{name}: {message}")
    return status


def ended(name: str, work: Callable[[], int]) -> int:
    """The exit status of `work`: its own; 3, something is not installed here; 1, it was refused or a tool failed."""
    try:
        return work()
    except Missing as missing:
        return fail(name, str(missing), 3)
    except Refused as refusal:
        return fail(name, str(refusal))
    except subprocess.CalledProcessError as error:
        tool = Path(str(error.cmd[0])).name
        return fail(name, f"{tool} ended with exit code {error.returncode}; its own words are above")

"""What the binary will say of itself: cortex/build_info.py, written anew in the build's copy of the sources."""

from __future__ import annotations

import os
import re
import subprocess
import time

from binary.environment import Workshop
from binary.flavours import Flavour
from binary.tools import ROOT


def write(shop: Workshop, flavour: Flavour, backends: str | None) -> dict[str, str | None]:
    """The facts as cortex/version.py reads them; `backends` in few words. SOURCE_DATE_EPOCH makes the time that of the sources."""
    now = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    facts: dict[str, str | None] = {
        "flavour": flavour.name,
        "backends": backends,
        "git_sha": commit(),
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
    }
    text = f'"""Written by build/compile."""\n\nBUILD_INFO = {facts!r}\n'
    (shop.sources / "cortex" / "build_info.py").write_text(text)
    return facts


def commit() -> str | None:
    """The commit, with -dirty where files differ from it. None outside a checkout."""
    try:
        return _out(["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty"])
    except (OSError, subprocess.SubprocessError):
        return None


def version() -> str:
    """That of the sources."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "cortex" / "__init__.py").read_text(), re.MULTILINE)
    assert found, "cortex/__init__.py says no version"  # noqa: S101  a file of ours
    return found[1]


def _out(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

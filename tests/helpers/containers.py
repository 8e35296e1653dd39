"""A host of its own that boots systemd: Debian in a container, without a network (debootstrap, systemd-nspawn, as root)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

TOOLS = ("debootstrap", "systemd-nspawn")
PACKAGES = "systemd,systemd-sysv,dbus,curl,procps,rpm,libstdc++6"
UNIT = """\
[Service]
ExecStart=/bin/bash /check.sh
ExecStopPost=/bin/systemctl poweroff --no-block
Environment=HOME=/root DEBIAN_FRONTEND=noninteractive
"""
# What every script may say: a fact a line, each with a name.
WORDS = r"""
say() { echo "$*" >> /facts; }
of() { systemctl show "$1" -p "$2" --value; }
within() { for _ in $(seq 300); do "$@" > /dev/null 2>&1 && return 0; sleep 0.2; done; return 1; }
healthy() { curl -sf -m 5 "http://127.0.0.1:$1/health"; }
knows() { curl -s -m 5 http://127.0.0.1:31313/v1/models | grep -q "$1"; }
restarted() { [ "$(of "$1" NRestarts)" -ge "$2" ]; }
gone() { [ ! -e "/proc/$1" ]; }
service() { port=13131; [ "$1" = cortex ] && port=31313; return 0; }
"""


def missing(*more: str) -> str | None:
    """Why no container can be started here; None when one can, as far as can be seen."""
    if os.geteuid() != 0:
        return "only root may start containers"
    absent = [tool for tool in (*TOOLS, *more) if shutil.which(tool) is None]
    return f"{', '.join(absent)}: not installed" if absent else None


def run(*command: str | Path, seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL
    )


def boot(empty: Path, root: Path, script: str, files: Mapping[str, Iterable[Path]]) -> dict[str, str]:
    """Run `script` (WORDS, then this) in a container at `root`, a copy of `empty` with `folder → files` in it.

    What it said: `name → value`, and `journal`, which the script leaves at /journal. Skips, with the reason, where nothing boots.
    """
    subprocess.run(["cp", "-a", empty, root], check=True)
    for folder, each in files.items():
        (root / folder).mkdir(parents=True)
        for file in each:
            shutil.copy(file, root / folder)
    (root / "check.sh").write_text(WORDS + script)
    units = root / "etc/systemd/system"
    (units / "check.service").write_text(UNIT)
    (units / "multi-user.target.wants/check.service").symlink_to("../check.service")
    booted = run(
        *("systemd-nspawn", "--register=no", "--keep-unit", "--private-network", "--boot", "--directory", root),
        seconds=500,
    )
    if not (root / "facts").exists():
        pytest.skip(f"systemd does not boot in a container here: {(booted.stdout + booted.stderr)[-300:]}")
    said = dict(line.split(" ", 1) for line in (root / "facts").read_text().splitlines())
    journal = root / "journal"
    return said | {"journal": journal.read_text() if journal.exists() else "the script did not come to its end"}


def debian(root: Path) -> Path:
    """An empty Debian with systemd, to be copied for each container."""
    made = run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", root, seconds=400)
    if made.returncode != 0:
        pytest.skip(f"debootstrap cannot make a root here: {made.stdout[-300:]}")
    return root

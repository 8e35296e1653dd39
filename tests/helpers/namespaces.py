"""Hosts of their own on this machine: network namespaces, each on a cable to this one (Debian's iproute2, as root)."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

_numbers = itertools.count(1)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@dataclass(frozen=True)
class Host:
    """A namespace. `address` is its own, `peer` ours, both on one cable."""

    name: str
    cable: str
    address: str
    peer: str

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        """`cortex` there; its log goes where the test's does."""
        command = ["ip", "netns", "exec", self.name, sys.executable, "-m", "cortex", *arguments]
        return subprocess.Popen(command, env={**os.environ, **environ})

    # ---- partitions

    def unplug(self) -> None:
        """The cable is gone, and this side sees it; its packets must not find another way out of this machine."""
        ip("route", "add", "unreachable", f"{self.address}/32")
        ip("link", "set", self.cable, "down")

    def plug_in(self) -> None:
        ip("link", "set", self.cable, "up")
        ip("route", "del", "unreachable", f"{self.address}/32")

    def swallow(self) -> None:
        """What it sends gets lost on the way, and nobody is told: the worst kind."""
        ip("-n", self.name, "route", "add", "blackhole", f"{self.peer}/32")

    def let_through(self) -> None:
        ip("-n", self.name, "route", "del", "blackhole", f"{self.peer}/32")


@contextlib.contextmanager
def host() -> Iterator[Host]:
    """Skips the test, with the reason, where namespaces cannot be made."""
    if shutil.which("ip") is None:
        pytest.skip("there is no ip command (iproute2)")
    number = next(_numbers)
    base = f"198.18.{os.getpid() % 250}.{number * 4}"  # the range for measuring networks, which nobody has
    stem = base.rpartition(".")[0]
    made = Host(
        f"cx{os.getpid()}-{number}", f"cx{os.getpid()}-{number}", f"{stem}.{number * 4 + 2}", f"{stem}.{number * 4 + 1}"
    )
    try:
        ip("netns", "add", made.name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not permitted here: {error.stderr.strip()}")
    try:
        try:
            ip("link", "add", made.cable, "type", "veth", "peer", "name", "eth0", "netns", made.name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"virtual cables are not permitted here: {error.stderr.strip()}")
        ip("addr", "add", f"{made.peer}/30", "dev", made.cable)
        ip("link", "set", made.cable, "up")
        ip("-n", made.name, "addr", "add", f"{made.address}/30", "dev", "eth0")
        ip("-n", made.name, "link", "set", "eth0", "up")
        ip("-n", made.name, "link", "set", "lo", "up")
        yield made
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("route", "del", "unreachable", f"{made.address}/32")
        ip("netns", "del", made.name)  # the cable goes with it

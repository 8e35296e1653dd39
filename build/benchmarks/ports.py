"""Ports for what cannot listen on port 0, because others must know its address beforehand.

They are below the range from which the system takes ports by itself (for port 0, and for outgoing connections), so that
nothing takes them between the asking and the listening but another process that asks here at the same moment.
"""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_chance = random.SystemRandom()
_given: set[int] = set()


def free_ports(count: int) -> int:
    """The first of `count` ports in a row that nobody listens on, and that were not given before."""
    below = int(_RANGE.read_text().split()[0])
    while True:
        first = _chance.randrange(min(10_000, below // 2), below - count)
        ports = range(first, first + count)
        if _given.isdisjoint(ports) and _are_free(ports):
            _given.update(ports)
            return first


def free_port() -> int:
    return free_ports(1)


def _are_free(ports: range) -> bool:
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        for port in ports:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        return True
    return False

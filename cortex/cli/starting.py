"""Why a role cannot start: one sentence with what to change, and whether starting it again may help (systemd reads the exit code)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping

from cortex.cli.outcome import Exit, Failure
from cortex.config.access import user
from cortex.config.listen import Listen

# What passes without anybody changing the configuration: a VPN or a name server that comes up later, a disk that is emptied.
PASSING = frozenset(
    {errno.EADDRNOTAVAIL, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, socket.EAI_AGAIN}
)
BINDING = " (while"  # Python's words for an address begin so
FIRST_FREE_PORT = 1024


def failure(role: str, error: Exception, wanted: Mapping[str, Listen]) -> Failure:
    """`wanted` names the configuration's key of each address."""
    if not isinstance(error, OSError):
        return Failure(f"the {role} cannot start: {error}", Exit.usage)
    code = Exit.failed if error.errno in PASSING else Exit.usage
    reason, _, place = (error.strerror or str(error)).partition(BINDING)
    for key, listen in wanted.items():
        if repr((listen.host, listen.port)) in place:
            return Failure(f"the {role} cannot listen on {listen}: {_address(error, reason, listen)}change {key}", code)
    at = f"{error.filename}: " if error.filename else ""
    whose = f" to user '{user()}'" if isinstance(error, PermissionError) else ""
    return Failure(f"the {role} cannot start: {at}{reason}{whose}", code)


def _address(error: OSError, reason: str, listen: Listen) -> str:
    """What is wrong with it, and what else than changing it would help."""
    if error.errno == errno.EADDRINUSE:
        return f"{reason.lower()}; stop what listens there (`ss -ltnp` names it), or "
    if error.errno == errno.EADDRNOTAVAIL:
        return "this host has no such address, or not yet; "
    if isinstance(error, PermissionError) and listen.port < FIRST_FREE_PORT:
        return f"{reason.lower()}: ports below {FIRST_FREE_PORT} want CAP_NET_BIND_SERVICE (AmbientCapabilities= of the unit); "
    return f"{reason.lower()}; "

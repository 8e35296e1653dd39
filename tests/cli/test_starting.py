"""Why a role cannot start, in a sentence that says what to change; and whether systemd is to try again."""

import errno
import os
import socket

import pytest

from cortex.cli import starting
from cortex.cli.outcome import Exit
from cortex.config.listen import Listen
from cortex.errors import CortexError

LISTEN = Listen("127.0.0.1", 31313)
WANTED = {"[gateway] listen": LISTEN, "[gateway] metrics_listen": Listen("127.0.0.1", 80)}


def binding(number, port, host="127.0.0.1"):
    """As Python's sockets tell it."""
    return OSError(number, f"{os.strerror(number)} (while attempting to bind on address {(host, port)!r})")


@pytest.mark.parametrize(
    ("error", "told", "code"),
    [
        (
            binding(errno.EADDRINUSE, 31313),
            (
                "cannot listen on 127.0.0.1:31313: address already in use; "
                "stop what listens there (`ss -ltnp` names it), or change [gateway] listen"
            ),
            Exit.usage,
        ),
        (
            binding(errno.EADDRNOTAVAIL, 31313),
            "cannot listen on 127.0.0.1:31313: this host has no such address, or not yet; change [gateway] listen",
            Exit.failed,
        ),
        (
            binding(errno.EACCES, 80),
            (
                "cannot listen on 127.0.0.1:80: permission denied: ports below 1024 want CAP_NET_BIND_SERVICE "
                "(AmbientCapabilities= of the unit); change [gateway] metrics_listen"
            ),
            Exit.usage,
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "/var/lib/cortex"),
            "cannot start: /var/lib/cortex: No space left on device",
            Exit.failed,
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/var/lib/cortex"),
            "cannot start: /var/lib/cortex: Read-only file system",
            Exit.usage,
        ),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "cannot start: Temporary failure", Exit.failed),
        (CortexError("runtime_dir is too long", status=500), "cannot start: runtime_dir is too long", Exit.usage),
    ],
    ids=["taken", "not-here", "low-port", "disk-full", "read-only", "name-server", "ours"],
)
def test_a_role_that_cannot_start_says_what_would_help(error, told, code):
    """What passes by itself is tried again; what somebody has to change is not."""
    failure = starting.failure("gateway", error, WANTED)
    assert (str(failure), failure.code) == (f"the gateway {told}", code)


@pytest.mark.parametrize(
    ("host", "port", "key"), [("127.0.0.1", 31313, "[gateway] metrics_listen"), ("0.0.0.0", 3131, "[gateway] other")]
)
def test_the_key_that_is_named_is_that_of_the_address(host, port, key):
    """A port may be the beginning of another one, and several addresses may have the same."""
    wanted = {
        "[gateway] listen": Listen("127.0.0.1", 3131),
        "[gateway] metrics_listen": LISTEN,
        "[gateway] other": Listen("0.0.0.0", 3131),
    }
    told = str(starting.failure("gateway", binding(errno.EADDRINUSE, port, host), wanted))
    assert told.startswith(f"the gateway cannot listen on {host}:{port}: ")
    assert told.endswith(f"or change {key}")

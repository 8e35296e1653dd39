"""What a process that we start inherits of our environment."""

from __future__ import annotations

import os
import re

_SECRET = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|API_?KEY|CREDENTIAL|AUTH|(^|_)(KEYS?|PASS|PAT)$|^CORTEX_|^NEURON_", re.IGNORECASE
)
_LOGIN = re.compile(r"://[^/\s@]+@")  # in an address: of a proxy, a database, an index


def without_secrets() -> dict[str, str]:
    """The neuron's own without what is secret: an engine reads untrusted files and needs no keys."""
    return {name: value for name, value in os.environ.items() if not (_SECRET.search(name) or _LOGIN.search(value))}

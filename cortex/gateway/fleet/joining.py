"""Whether a neuron that announces itself may join, and as what. Pure: the fleet is a snapshot, the time is given.

Whoever announces holds the fleet's token. It is believed in nothing that could turn this gateway against hosts that are no
neurons, or against neurons that others rely on.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from cortex import errors
from cortex.config.gateway import NeuronRef
from cortex.config.urls import base_url
from cortex.errors import CortexError
from cortex.wire.fleet import Announcement

JOINED_LIMIT = 1024
SILENCE = 3.5  # intervals after which a joined neuron has left


@dataclass(frozen=True, slots=True)
class Joined:
    """A neuron that announced itself. `until`: when it has left if it stays silent, on the caller's clock."""

    ref: NeuronRef
    until: float


def endpoint_of(announcement: Announcement, peer: str) -> str:
    """Where the neuron at the address `peer` says that it is. Raises CortexError 400."""
    host = f"[{peer}]" if ":" in peer else peer
    try:
        endpoint = base_url(announcement.endpoint or f"{announcement.scheme}://{host}:{announcement.port}")
    except ValueError as error:
        raise errors.invalid_request(f"endpoint: {error}", param="endpoint") from None
    named = urlsplit(endpoint).hostname or ""
    if wrong := _not_a_neuron(named, peer):
        raise errors.invalid_request(f"endpoint: {endpoint} {wrong}", param="endpoint")
    return endpoint


def _not_a_neuron(host: str, peer: str) -> str | None:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        last = host.rstrip(".").rpartition(".")[2]
        return "is an address in disguise" if last[:1].isdigit() else None  # 2130706433, 0x7f.1: resolvers take them
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_unspecified or address.is_multicast or address.is_link_local:
        return "is no address of a host"
    if address.is_loopback and not ipaddress.ip_address(peer).is_loopback:
        return "is this gateway's own host, and the neuron is on another one"
    return None


def admit(
    ref: NeuronRef,
    configured: Mapping[str, NeuronRef],
    joined: Mapping[str, Joined],
    healthy: Collection[str],
) -> bool:
    """Whether it joins: False when the configuration has it already, which wins. Raises CortexError 409 or 503."""
    if mine := configured.get(ref.name):
        if mine.endpoint == ref.endpoint:
            return False
        raise _taken(f"'{ref.name}' is configured here at another endpoint")
    if any(other.endpoint == ref.endpoint for other in configured.values()):
        return False
    known = joined.get(ref.name)
    if known and known.ref.endpoint != ref.endpoint and ref.name in healthy:
        raise _taken(f"another neuron has joined as '{ref.name}' and answers; set join.name")
    if twin := next(
        (name for name, other in joined.items() if name != ref.name and other.ref.endpoint == ref.endpoint), None
    ):
        raise _taken(f"the neuron at that endpoint has joined as '{twin}'")
    if known is None and len(joined) >= JOINED_LIMIT:
        raise errors.unavailable(f"{JOINED_LIMIT} neurons have joined, which is the most that may", retry_after=30)
    return True


def _taken(message: str) -> CortexError:
    return errors.invalid_request(message, code="name_taken", status=409, param="name")

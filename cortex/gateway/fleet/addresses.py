"""Where a neuron's inference goes, as this gateway reaches it."""

from __future__ import annotations

from dataclasses import replace

from cortex.config.listen import LOOPBACK
from cortex.net.address import Address

_UNSPECIFIED = frozenset({"0.0.0.0", "::", *LOOPBACK})


def inference_address(reported_url: str, endpoint: Address, *, elsewhere: bool = True) -> Address:
    """The address behind a URL that a neuron reports for a model. ValueError for what is no `http[s]://host[:port]`.

    A neuron knows itself as localhost; the gateway knows it by the host of `endpoint`. The port is the neuron's to say.
    Whether it is encrypted is not: who is known by https is asked by https, trusting the same authority. Without
    `elsewhere` another host is not either.
    """
    address = Address.parse(reported_url, endpoint.tls)
    if address.uds is not None:
        raise ValueError(f"'{reported_url}' is a socket on the neuron's own host")
    if (address.tls is None) != (endpoint.tls is None):
        raise ValueError(f"'{reported_url}' and the neuron's endpoint {endpoint} are not both https")
    if not elsewhere and address.host != endpoint.host and not _is_own(address):
        raise ValueError(f"'{reported_url}' is on another host than the neuron, which joined by itself")
    return replace(address, host=endpoint.host) if _is_own(address) else address


def _is_own(address: Address) -> bool:
    """What a neuron calls itself."""
    return address.host in _UNSPECIFIED or address.host.startswith("127.")

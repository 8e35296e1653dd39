"""Which hosts may be asked for an image. Pure.

A client must not reach through the gateway what it cannot reach itself: an address that is not public is asked only for a
host that the operator names. What is checked is the address that is then connected to, not the name.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from cortex import errors
from cortex.config.images import ImagesSection
from cortex.errors import CortexError

_PORTS = {"http": 80, "https": 443}
_SHOWN = 120  # letters of a URL in an error


def refused(url: str, reason: str) -> CortexError:
    shown = url if len(url) <= _SHOWN else url[:_SHOWN] + "…"
    return errors.invalid_request(f"the image '{shown}' {reason}", code="invalid_image_url", param="messages")


def place_of(url: str, settings: ImagesSection) -> tuple[str, int]:
    """Host and port. Raises CortexError 400 for what is no URL to fetch, or of a host that is not to be asked."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise refused(url, "is no valid URL") from None
    if parts.scheme not in _PORTS or not host or port == 0:
        raise refused(url, "is no http or https URL")
    if parts.username is not None or parts.password is not None:
        raise refused(url.partition("//")[0] + "//…", "carries a user or password: a URL that needs none is fetched")
    if settings.hosts and not _is_among(host, (*settings.hosts, *settings.private_hosts)):
        raise refused(url, "is on a host that this gateway does not ask: [images] hosts in cortex.toml lists them")
    return host, port or _PORTS[parts.scheme]


def check_addresses(url: str, host: str, addresses: Iterable[str], settings: ImagesSection) -> None:
    """Raises CortexError 400 unless every address of the host may be connected to."""
    if not _is_among(host, settings.private_hosts) and not all(map(is_public, addresses)):
        raise refused(
            url,
            "is on a host without a public address: [images] private_hosts in cortex.toml lists those that may be asked",
        )


def is_public(text: str) -> bool:
    """Whether an address is one of the public internet: not private, shared, loopback, link-local, multicast or reserved, also inside IPv6."""
    address: IPv4Address | IPv6Address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return is_public(str(address.ipv4_mapped))
        if address.sixtofour or address.teredo or address.is_site_local or address.scope_id:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _is_among(host: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(host.lower(), pattern) for pattern in patterns)

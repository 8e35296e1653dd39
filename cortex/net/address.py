"""Where an upstream listens."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote, urlsplit

from cortex.net.tls import trusting_system

_FORMS = "'http://host:port', 'https://host:port' or 'http+unix:///path/to.sock'"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """TCP `host` and `port`, or, when `uds` is set, the path of a Unix socket (then host is 'localhost' and port 0).

    tls        whom to trust there; None: in the clear. Connections of different contexts are never mixed.
    authority  the value of the `Host` header
    """

    host: str
    port: int
    uds: str | None = None
    tls: ssl.SSLContext | None = None
    authority: str = field(init=False, repr=False, compare=False, default="")
    _hash: int = field(
        init=False, repr=False, compare=False, default=0
    )  # every request looks for its connections twice

    def __post_init__(self) -> None:
        object.__setattr__(self, "authority", self._authority())
        object.__setattr__(self, "_hash", hash((self.host, self.port, self.uds, self.tls)))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def parse(cls, url: str, tls: ssl.SSLContext | None = None) -> Self:
        """Read `http[s]://host[:port][/]` (port 80 or 443 by default) or `http+unix:///path`; ValueError says what is wrong.

        `tls` is whom https trusts; default: the operating system's authorities.
        """
        scheme = url.partition("://")[0].lower()
        if scheme == "http+unix":
            return cls._parse_unix(url)
        if scheme not in _PORTS or "://" not in url:
            raise ValueError(f"'{url}' is not the address of an upstream: use {_FORMS}")
        return cls._parse_tcp(url, _PORTS[scheme], (tls or trusting_system()) if scheme == "https" else None)

    @classmethod
    def _parse_unix(cls, url: str) -> Self:
        path = unquote(url.partition("://")[2])
        if not path.startswith("/") or path.endswith("/") or "\0" in path:
            raise ValueError(f"'{url}': a Unix socket needs an absolute path, as in 'http+unix:///run/x.sock'")
        return cls("localhost", 0, path)

    @classmethod
    def _parse_tcp(cls, url: str, port_of_scheme: int, tls: ssl.SSLContext | None) -> Self:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:  # a port beyond 65535, a bracket that is not closed
            raise ValueError(f"'{url}' is not the address of an upstream: {error}") from error
        if not host or any(letter.isspace() for letter in url):
            raise ValueError(f"'{url}' names no host: use {_FORMS}")
        if "@" in parts.netloc:
            raise ValueError(f"the address of '{host}' carries a user or password: give host and port only")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"'{url}': only scheme, host and port belong here, without a path")
        if port == 0:
            raise ValueError(f"'{url}': port 0 is no port to connect to")
        return cls(host, port or port_of_scheme, tls=tls)

    def _authority(self) -> str:
        if self.uds is not None:
            return "localhost"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        if self.uds is not None:
            return f"http+unix://{self.uds}"
        return f"{'https' if self.tls else 'http'}://{self.authority}"

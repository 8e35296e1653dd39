"""Where an upstream listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

_FORMS = "'http://host:port' or 'http+unix:///path/to.sock'"


@dataclass(frozen=True, slots=True)
class Address:
    """TCP `host` and `port`, or, when `uds` is set, the path of a Unix socket (then host is 'localhost' and port 0)."""

    host: str
    port: int
    uds: str | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `http://host[:port][/]` (port 80 by default) or `http+unix:///path`; ValueError says what is wrong."""
        scheme = url.partition("://")[0].lower()
        if scheme == "https":
            raise ValueError(f"'{url}': https is not supported yet, use {_FORMS}")
        if scheme not in ("http", "http+unix") or "://" not in url:
            raise ValueError(f"'{url}' is not the address of an upstream: use {_FORMS}")
        return cls._parse_unix(url) if scheme == "http+unix" else cls._parse_tcp(url)

    @classmethod
    def _parse_unix(cls, url: str) -> Self:
        path = unquote(url.partition("://")[2])
        if not path.startswith("/") or path.endswith("/") or "\0" in path:
            raise ValueError(f"'{url}': a Unix socket needs an absolute path, as in 'http+unix:///run/x.sock'")
        return cls("localhost", 0, path)

    @classmethod
    def _parse_tcp(cls, url: str) -> Self:
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
        return cls(host, port or 80)

    @property
    def authority(self) -> str:
        """The value of the `Host` header."""
        if self.uds is not None:
            return "localhost"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"http+unix://{self.uds}" if self.uds is not None else f"http://{self.authority}"

"""`host:port`, parsed once."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Listen(NamedTuple):
    """An address to listen on: `127.0.0.1:31313`, `[::1]:31313`, `0.0.0.0:31313`. Port 0 takes any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK or self.host.startswith("127.")

    @classmethod
    def parse(cls, text: Any) -> Listen:
        if isinstance(text, cls):
            return text
        host, colon, port = str(text).rpartition(":")
        if not colon or not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"'{text}' is not host:port, for example 127.0.0.1:31313")
        return cls(host.strip("[]"), int(port))


ListenField = Annotated[Listen, BeforeValidator(Listen.parse)]

"""`[images]` of cortex.toml: whether the gateway fetches images that a request names by http(s) URLs."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from cortex.config.loader import Section


def _host(pattern: str) -> str:
    if not pattern or any(letter in pattern for letter in "/:@ "):
        raise ValueError(
            f"'{pattern}' is no host: give a name without scheme and port, as in images.example.org or *.lan"
        )
    return pattern.lower()


Host = Annotated[str, AfterValidator(_host)]


class ImagesSection(Section):
    """Data URLs need none of this.

    hosts          the only hosts that are asked, `*` stands for any letters; default: every one with a public address
    private_hosts  hosts that may have a private, loopback or link-local address; all others may not
    max_mb         of one image, MiB
    max_count      of one request
    timeout_secs   for all images of a request
    """

    allow_urls: bool = False
    hosts: tuple[Host, ...] = ()
    private_hosts: tuple[Host, ...] = ()
    max_mb: int = Field(20, ge=1)
    max_count: int = Field(16, ge=1)
    timeout_secs: float = Field(10.0, gt=0)

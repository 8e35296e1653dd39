"""Base URLs of neurons and gateways."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator


def base_url(url: str) -> str:
    """A base URL without its trailing slash, so that `//v1/…` can never be built from it."""
    if "@" in url:  # wherever a mistake has put it: what follows would tell the URL
        raise ValueError("a base URL carries no user and no password; a neuron's secret is its token")
    parts = urlsplit(url)
    written = url.isprintable() and " " not in url  # urlsplit leaves line breaks out without a word
    whole = written and parts.path in ("", "/") and not parts.query and not parts.fragment and parts.port != 0
    if parts.scheme not in ("http", "https") or not parts.hostname or not whole:
        raise ValueError(f"'{url}' is not a base URL, for example http://10.0.0.5:13131")
    return url.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(base_url)]

"""One image over HTTP, as a data URL: bounded in size and kind, and from the very address that was checked.

A name is resolved once, its addresses are checked, and one of them is connected to: no second look-up may answer
otherwise. Redirects are followed some times, each checked like a new URL. Nothing is kept between two images.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from cortex.config.images import ImagesSection
from cortex.gateway.images.access import check_addresses, place_of, refused
from cortex.net.tls import trusting_system

if TYPE_CHECKING:
    import httpx

MIB = 1024 * 1024
REDIRECTS = 3
KINDS = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"})
_ASKED = {"accept": "image/*", "accept-encoding": "identity", "user-agent": "cortex"}


async def fetch(url: str, settings: ImagesSection) -> str:
    """`data:image/…;base64,…`. Raises CortexError 400 that says why there is none."""
    import httpx

    limits = httpx.Limits(max_keepalive_connections=0)  # a connection is trusted for one name only
    async with httpx.AsyncClient(verify=trusting_system(), trust_env=False, limits=limits) as client:
        try:
            return await _followed(client, url, settings)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise refused(url, f"could not be fetched: {type(error).__name__}") from error


async def _followed(client: httpx.AsyncClient, url: str, settings: ImagesSection) -> str:
    asked = url
    for _ in range(REDIRECTS + 1):
        found, elsewhere = await _asked(client, asked, settings)
        if not elsewhere:
            return found
        asked = _joined(url, asked, found)
    raise refused(url, f"is redirected more than {REDIRECTS} times")


def _joined(url: str, asked: str, found: str) -> str:
    try:
        return urljoin(asked, found)
    except ValueError:
        raise refused(url, "could not be fetched: it is redirected to what is no URL") from None


async def _asked(client: httpx.AsyncClient, url: str, settings: ImagesSection) -> tuple[str, bool]:
    """The image as a data URL, or where it is instead; which of the two."""
    import httpx

    host, port = place_of(url, settings)
    address = await _address(url, host, port, settings)
    named = httpx.URL(url)
    request = client.build_request(
        "GET",
        named.copy_with(host=address, fragment=None),
        headers={**_ASKED, "host": named.netloc.decode("ascii")},
        extensions={"sni_hostname": host, "timeout": httpx.Timeout(settings.timeout_secs).as_dict()},
    )
    response = await client.send(request, stream=True)
    try:
        if response.has_redirect_location:
            return str(response.headers["location"]), True
        kind, body = _kind(url, response), await _body(url, response, settings.max_mb * MIB)
        return await asyncio.to_thread(_data_url, kind, body), False
    finally:
        await response.aclose()


async def _address(url: str, host: str, port: int, settings: ImagesSection) -> str:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        found = []
    addresses = [str(each[4][0]) for each in found]
    check_addresses(url, host, addresses or ["::"], settings)  # a name that nobody knows has no public address either
    if not addresses:
        raise refused(url, "is on a host that cannot be found")
    return addresses[0]


async def _body(url: str, response: httpx.Response, most: int) -> bytes:
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > most:
            raise refused(url, f"is larger than {most // MIB} MiB")
    return bytes(body)


def _kind(url: str, response: httpx.Response) -> str:
    if response.status_code != 200:
        raise refused(url, f"could not be fetched: its host answered {response.status_code}")
    kind = str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
    if kind not in KINDS or response.headers.get("content-encoding", "identity") != "identity":
        raise refused(url, f"is none of {', '.join(sorted(KINDS))}")
    return kind


def _data_url(kind: str, body: bytes) -> str:
    """Some 20 ms for a large image."""
    return f"data:{kind};base64,{base64.b64encode(body).decode()}"

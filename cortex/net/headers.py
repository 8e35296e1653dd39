"""Header fields: which ones travel end to end, and how the head of a request or an answer is written.

RFC 9110 section 7.6.1: fields about one connection, and the ones that `Connection` names, stop at every intermediary.
Values are text as UTF-8 with surrogateescape, in both directions, so that any bytes pass unchanged.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Sequence
from http import HTTPStatus

from cortex.net.address import Address

Headers = Sequence[tuple[str, str]]

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
    | {f"proxy-{name}" for name in ("authenticate", "authentication-info", "authorization", "connection")}
)
_OURS = frozenset({"host", "content-length", "expect"})  # written anew, or answered by the server that read the request
_NOT_UPSTREAM = _HOP_BY_HOP | _OURS
_SET_BY_POOL = frozenset({"connection", "content-length", "host", "transfer-encoding"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE_BREAKING = re.compile(r"[\r\n\0]")
_NOT_IN_TARGET = re.compile(r"[^\x21-\x7e]")


def forwardable_request_headers(
    headers: Collection[tuple[str, str]], kept_back: frozenset[str] = frozenset()
) -> list[tuple[str, str]]:
    """A client's headers that may go upstream: hop-by-hop fields, host, content-length and expect stay behind.

    Names are lower-cased, as both readers of heads give them. `kept_back`: what else stays behind.
    """
    return _without(_staying(kept_back), headers)


@functools.lru_cache(maxsize=8)
def _staying(kept_back: frozenset[str]) -> frozenset[str]:
    return _NOT_UPSTREAM | kept_back


def forwardable_response_headers(headers: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
    """An upstream's headers that may go to the client. `content-length` stays: the body is passed verbatim."""
    return _without(_HOP_BY_HOP, headers)


def _without(staying: frozenset[str], headers: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
    if "connection" in dict(headers):
        said = ",".join([value for name, value in headers if name == "connection"])
        staying |= {option.strip().lower() for option in said.split(",")}
    return [field for field in headers if field[0] not in staying]


def request_head(address: Address, method: str, path: str, headers: Headers, *, length: int, keepalive: bool) -> bytes:
    """The head of a request. ValueError for whatever could be read as a second header or a second request."""
    lines = [_request_line(method, path), f"host: {address.authority}\r\n"]
    for name, value in headers:
        if not value.isprintable():
            _check(name, value)
        lines.append(f"{_checked(name)}: {value}\r\n")
    if length or method in ("POST", "PUT", "PATCH"):
        lines.append(f"content-length: {length}\r\n")
    lines.append("\r\n" if keepalive else "connection: close\r\n\r\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


@functools.lru_cache(maxsize=256)
def _request_line(method: str, path: str) -> str:
    if not _TOKEN.fullmatch(method):
        raise ValueError(f"{method!r} is not an HTTP method")
    if not path.startswith("/") or _NOT_IN_TARGET.search(path):
        raise ValueError(f"the path {path!r} must begin with '/' and be percent-encoded")
    return f"{method} {path} HTTP/1.1\r\n"


@functools.lru_cache(maxsize=1024)
def _checked(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a header")
    if name.lower() in _SET_BY_POOL:
        raise ValueError(f"the header '{name}' is set by the pool: pass forwardable_request_headers()")
    return name


def without_breaks(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers as they are. ValueError for a value that could be read as a second header."""
    checked = list(headers)
    for name, value in checked:
        _check(name, value)
    return checked


def _check(name: str, value: str) -> None:
    """The value is not told in the error: it may be a key."""
    if _LINE_BREAKING.search(value):
        raise ValueError(f"the value of the header '{name}' holds a line break or NUL")


def response_head(status: int, headers: Iterable[tuple[str, str]], *, keepalive: bool) -> bytes:
    """The head of an answer. Its values hold no line break: they came over a wire, or see `without_breaks`."""
    lines = [_status_line(status), *[f"{name}: {value}\r\n" for name, value in headers]]
    lines.append("connection: keep-alive\r\n\r\n" if keepalive else "connection: close\r\n\r\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


@functools.lru_cache(maxsize=256)
def _status_line(status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:  # an upstream's own number
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n"

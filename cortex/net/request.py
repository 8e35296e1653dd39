"""The head of a request as a server reads it, without I/O.

RFC 9112, strictly: what two readers could take for different requests is none (no blank before a colon, no folded line, no
second length). Values are text as UTF-8 with surrogateescape, as everywhere in `net`.
"""

from __future__ import annotations

import re

from cortex.net.errors import ProtocolError

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
_FIELD = re.compile(r"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)\r\n", re.MULTILINE)
_ASKED = re.compile(rb"([A-Z]{1,32}) (?:https?://[^/?# ]*)?(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)")
_FRAMING = frozenset({"connection", "content-length", "expect", "transfer-encoding"})
_LENGTH = re.compile(r"[0-9]{1,18}")


class RequestHead:
    """One request's head. Header names are lower-cased.

    length     of the body in bytes; 0 where none is told
    chunked    the body comes in chunks
    keepalive  the client may send another request on this connection
    expect     the value of `Expect`, where a body follows
    """

    __slots__ = ("chunked", "expect", "headers", "keepalive", "length", "method", "target", "version")

    def __init__(self, head: bytes) -> None:
        """`head` ends with the line break of its last field. Raises ProtocolError."""
        if not (line := _LINE.match(head)):
            raise ProtocolError("this is no HTTP/1.1 request")
        method, self.target, minor = line.groups()
        self.method: str = method.decode()
        self.version = "1.1" if minor == b"1" else "1.0"
        self.keepalive = minor == b"1"
        self.expect: str | None = None
        self.length, self.chunked = 0, False
        self.headers = _fields(head[line.end() :].decode("utf-8", "surrogateescape"))
        framing = [field for field in self.headers if field[0] in _FRAMING]
        if len(framing) == 1 and framing[0][0] == "content-length":  # as most have it
            self._body([framing[0][1]], [])
        elif framing:
            self._frame(framing)

    def _frame(self, framing: list[tuple[str, str]]) -> None:
        lengths: list[str] = []
        codings: list[str] = []
        expect = None
        for name, value in framing:
            if name == "content-length":
                lengths.append(value)
            elif name == "transfer-encoding":
                codings.append(value.lower())
            elif name == "connection":
                self._connection(value.lower())
            else:
                expect = value.lower()
        if lengths or codings:
            self.expect = expect
            self._body(lengths, codings)

    def _connection(self, value: str) -> None:
        options = {option.strip() for option in value.split(",")}
        if "close" in options:
            self.keepalive = False
        elif "keep-alive" in options:
            self.keepalive = True

    def _body(self, lengths: list[str], codings: list[str]) -> None:
        if len(lengths) + len(codings) > 1:
            raise ProtocolError("one content-length or one transfer-encoding says where a body ends, not several")
        if codings and (codings[0] != "chunked" or self.version == "1.0"):  # RFC 9112 section 6.1
            raise ProtocolError("the only transfer-encoding of a request here is chunked, with HTTP/1.1")
        if lengths and not _LENGTH.fullmatch(lengths[0]):
            raise ProtocolError("the content-length is no number of bytes")
        self.chunked = bool(codings)
        self.length = int(lengths[0]) if lengths else 0


def asked_of(head: bytes) -> tuple[str, str]:
    """Method and path of what is no whole head, or none at all, as far as it tells them; empty where it does not."""
    told = _ASKED.match(head)
    return (told[1].decode(), told[2].decode()) if told else ("", "")


def _fields(lines: str) -> list[tuple[str, str]]:
    fields = _FIELD.findall(lines)
    if len(fields) != lines.count("\n"):
        raise ProtocolError("the headers of this request are not written as 'name: value' in a line each")
    return [(name.lower(), value.rstrip(" \t")) for name, value in fields]

"""An answer that is made piece by piece, on its way to the client."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sanic import Request

from cortex.web.http1 import Http1, Protocol, has_body

log = logging.getLogger(__name__)
_LAST_CHUNK = b"0\r\n\r\n"


class SanicSink:
    """A client's connection as `net.relay` sees it. `status` is None until the answer has begun.

    Its head goes with the first piece, in one write. The body's end is told by its length where the headers have one,
    else by chunks; to a client of HTTP/1.0 by the end of the connection.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        stream: Any = request.stream
        self._http: Http1 = stream
        self._client: Protocol = stream.protocol
        self._head = b""
        self._left: int | None = None
        self._chunked = self._mute = False
        self.status: int | None = None
        request.ctx.sink = self

    async def start(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """`headers` have lower-cased names."""
        self.status = status
        told = dict(headers)
        if "x-request-id" in told:
            headers = [field for field in headers if field[0] != "x-request-id"]
        fields = [("x-request-id", self._request.ctx.id), *headers]
        if "content-type" not in told:
            fields.append(("content-type", "application/octet-stream"))
        if length := told.get("content-length"):
            self._left = int(length)
        self._frame(status, fields)
        self._head = self._http.begin(status, fields)

    def _frame(self, status: int, fields: list[tuple[str, str]]) -> None:
        http = self._http
        if http.head_only or not has_body(status):
            self._mute, self._left = True, None
        elif self._left is None and self._request.version == "1.0":
            http.keep_alive = False
        elif self._left is None:
            self._chunked = True
            fields.append(("transfer-encoding", "chunked"))

    async def send(self, data: bytes) -> None:
        """Wait while the client is slow; raises CancelledError when it has gone."""
        if self._mute or not data:
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        elif self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise ValueError("the answer is longer than its content-length")
        if self._head:
            data, self._head = self._head + data, b""
        if self._client.is_writable:
            self._client.write(data)
        else:
            await self._client.send(data)

    async def finish(self) -> None:
        if self._left:
            raise ValueError("the answer is shorter than its content-length")
        rest, self._head = self._head + (_LAST_CHUNK if self._chunked else b""), b""
        if rest:
            await self._client.send(rest)
        self._http.end()

    def abort(self, error: Exception) -> None:
        """The answer cannot be completed: cut the connection, so that nobody takes what was sent for a whole answer."""
        self._request.ctx.fields["broke_off"] = True  # its line says so beside the status, which was sent
        log.warning(
            "%s %s broke off: %s",
            self._request.method,
            self._request.path,
            error,
            extra={"fields": {"id": self._request.ctx.id}},
        )
        self._http.cut()

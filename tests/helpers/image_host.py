"""A host with images, as a client might name it: it redirects, stalls, lies and floods as its paths say. On loopback."""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PNG_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()
FLOOD = 3 * 1024 * 1024


@dataclass
class ImageHost:
    """`asked`: (path, Host header) of each request. `released` lets those end that are never answered."""

    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@contextmanager
def image_host(tls: ssl.SSLContext | None = None) -> Iterator[ImageHost]:
    """Over https with `tls`. `/image.png`, `/to?URL` (a redirect), `/loop`, `/text`, `/stall`, `/flood`, `/liar` (less than it says), anything else: 404."""
    host = ImageHost()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host.asked.append((self.path, self.headers["host"]))
            path, _, query = self.path.partition("?")
            if path == "/to":
                self._answer(302, b"", location=query)
            elif path == "/loop":
                self._answer(302, b"", location=self.path)
            elif path == "/text":
                self._answer(200, b"<html>", content_type="text/html")
            elif path == "/stall":
                host.released.wait()
            elif path == "/flood":
                self._answer(200, b"x" * FLOOD, content_type="image/png")
            elif path == "/liar":
                self._answer(200, PNG, length=len(PNG) + 10, content_type="image/png")
            else:
                self._answer(200 if path == "/image.png" else 404, PNG, content_type="image/png; charset=binary")

        def _answer(self, status: int, body: bytes, *, length: int | None = None, **headers: str) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body) if length is None else length))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:  # whoever asked had enough
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    host.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield host
    finally:
        host.released.set()
        server.shutdown()
        server.server_close()
        thread.join()

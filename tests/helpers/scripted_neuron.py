"""A neuron that answers as it is told, also wrongly or never; on a real socket, and apart from our own server code."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "org/model-GGUF"
ANSWER = b'{ "choices" : [ {"message": {"content": "It is PARIS."},\n "finish_reason": "stop"} ], "caf\\u00e9": 1e2 }\n'


@dataclass
class Script:
    """What a neuron answers, and what it was sent; `shown` are the keys of it. A path in `hang` is never answered."""

    health: tuple[int, bytes] = (200, b"{}")
    models: tuple[int, bytes] = (200, json.dumps([{"id": MODEL, "status": "loaded"}]).encode())
    load: tuple[int, bytes] = (200, b'{"status":"loaded"}')
    chat: tuple[int, bytes] = (200, ANSWER)
    hang: str = ""
    port: int = 0
    seen: list[tuple[str, Any]] = field(default_factory=list)
    shown: list[str | None] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def answer(self, path: str) -> tuple[int, bytes]:
        if path == self.hang:
            self.ended.wait()
        if path.endswith("/endpoint"):
            return 200, b'{"url": "http://localhost:%d"}' % self.port
        by_path = {
            "/health": self.health,
            "/models": self.models,
            "/models/load": self.load,
            "/discovery": (200, b"{}"),
        }
        return by_path.get(path.partition("?")[0], self.chat)


@contextmanager
def scripted_neuron() -> Iterator[Script]:
    """A scripted server on a free loopback port. A hanging one is released at the end."""
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            script.seen.append((self.path, json.loads(self.rfile.read(length)) if length else None))
            script.shown.append(self.headers["authorization"])
            status, body = script.answer(self.path)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  the library's name

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield script
    finally:
        script.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()

"""A hub on loopback: the few endpoints that fetching needs, over real HTTP, and able to misbehave on purpose."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "c0de"


@dataclass
class Seen:
    """A request as it came."""

    path: str
    range: str | None
    authorization: str | None


@dataclass
class FakeHub:
    """`repos[repo][name]` is served as content. What it does wrong is set on it, and may be changed at any time."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    endpoint: str = ""
    list_status: int = 200  # what a listing is answered with
    list_body: bytes | None = None  # instead of a listing
    file_status: int | None = None  # what files are answered with
    circular: bool = False  # files are said to be where they were asked for
    break_after: list[int] = field(default_factory=list)  # each file request takes one: bytes until it breaks off
    honour_range: bool = True
    false_sha: bool = False  # the listing names another sha256
    hang_listing: bool = False  # the listing does not come while the hub lives
    hang_file: bool = False  # a file that would break off stalls instead
    end: threading.Event = field(default_factory=threading.Event)  # the hub closes

    def files_asked(self) -> list[Seen]:
        return [request for request in self.seen if "/resolve/" in request.path]

    def listing(self, repo: str) -> bytes:
        siblings = [self._sibling(name, content) for name, content in self.repos[repo].items()]
        return json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings, "private": False}).encode()

    def _sibling(self, name: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(b"other" if self.false_sha else content).hexdigest()
        git = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        lfs = {"sha256": digest, "size": len(content), "pointerSize": 135}
        return {"rfilename": name, "size": len(content), "blobId": git, "lfs": lfs}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.seen.append(Seen(path, self.headers["range"], self.headers["authorization"]))
        if path.startswith("/api/models/"):
            if self.hub.hang_listing:
                self.hub.end.wait()
            self._list(path.removeprefix("/api/models/").removesuffix("/revision/main"))
        else:
            repo, _, rest = path.lstrip("/").partition("/resolve/")
            self._file(self.hub.repos[repo][rest.removeprefix(COMMIT + "/")])

    def _list(self, repo: str) -> None:
        status = self.hub.list_status if repo in self.hub.repos else 401
        body = self.hub.list_body or (self.hub.listing(repo) if status == 200 else b'{"error": "no"}')
        self._answer(status, body, {})

    def _file(self, content: bytes) -> None:
        if self.hub.circular:
            self._answer(302, b"", {"location": self.path})
            return
        if self.hub.file_status is not None:
            self._answer(self.hub.file_status, b"no", {})
            return
        asked = self.headers["range"] if self.hub.honour_range else None
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        headers = {"content-range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if asked else {}
        cut = self.hub.break_after.pop(0) if self.hub.break_after else None
        self._answer(206 if asked else 200, content[start:], headers, cut=cut)

    def _answer(self, status: int, body: bytes, headers: dict[str, str], *, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in ({"content-length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])
        if cut is not None:
            self.wfile.flush()
            if self.hub.hang_file:
                self.hub.end.wait()
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that left is no news."""


@contextlib.contextmanager
def fake_hub(**repos: dict[str, bytes]) -> Iterator[FakeHub]:
    """A hub that listens while the block runs; `org__repo={name: content}` names a repository."""
    hub = FakeHub(repos={name.replace("__", "/"): files for name, files in repos.items()})
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        hub.end.set()
        server.shutdown()
        thread.join()
        server.server_close()

"""An upstream that misbehaves on purpose, on a real socket.

    ok = [Peer.request, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"]
    async with FakeUpstream(ok, [Peer.request, barrier, Peer.reset]) as upstream:
        await pool.open(Address.parse(upstream.url), "GET", "/")

A script is what happens on one connection, step by step: bytes are sent, an event is waited for, anything else is called
with the peer and awaited. The first connection plays the first script and so on; the last script serves all later ones.
After its last step a connection stays open until the client leaves, so that silence is a script, too: `[]`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Request:
    """A request as it came. Header names are lower-cased."""

    line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


class Peer:
    """One connection, seen from the upstream. Its methods are steps of scripts.

    requests  what was asked on it
    sent      bytes written, including those that still wait for a slow reader
    stalled   a write is waiting for the client to read
    left      the client has closed the connection
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.requests: list[Request] = []
        self.sent = 0
        self.stalled = False
        self.left = asyncio.Event()

    async def request(self) -> None:
        """Read one whole request."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        line, *fields = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = tuple((name.lower(), value) for name, _, value in (field.partition(": ") for field in fields))
        body = await self._reader.readexactly(int(dict(headers).get("content-length", 0)))
        self.requests.append(Request(line, headers, body))

    async def head(self) -> None:
        """Read the head of a request and nothing of its body."""
        await self._reader.readuntil(b"\r\n\r\n")

    async def send(self, data: bytes) -> None:
        """Write, and wait while the client does not read."""
        self._writer.write(data)
        self.sent += len(data)
        self.stalled = True
        await self._writer.drain()
        self.stalled = False

    async def close(self) -> None:
        """End the connection regularly, after everything was sent."""
        self._writer.close()
        await self._writer.wait_closed()

    async def reset(self) -> None:
        """Drop the connection: the client gets ECONNRESET on TCP, and the end of the stream on a Unix socket."""
        await self._writer.drain()
        raw = self._writer.get_extra_info("socket")
        if raw.family != socket.AF_UNIX:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65536):
                pass
        self.left.set()


Step = bytes | asyncio.Event | Callable[[Peer], Awaitable[None]]
Script = Sequence[Step]


def forever(*steps: Step) -> Step:
    """The steps again and again, until the client leaves."""

    async def again(peer: Peer) -> None:
        while True:
            await play(peer, steps)

    return again


async def play(peer: Peer, script: Script) -> None:
    for step in script:
        if isinstance(step, bytes):
            await peer.send(step)
        elif isinstance(step, asyncio.Event):
            await step.wait()
        else:
            await step(peer)


class FakeUpstream:
    """A server that plays scripts, on a port of its own or on the Unix socket `uds`. `peers`: its connections so far."""

    def __init__(self, *scripts: Script, uds: Path | None = None) -> None:
        self._scripts = scripts
        self._uds = uds
        self._server: asyncio.Server | None = None
        self._playing: set[asyncio.Task[None]] = set()
        self.peers: list[Peer] = []

    async def __aenter__(self) -> Self:
        if self._uds is not None:
            self._server = await asyncio.start_unix_server(self._serve, self._uds)
            self.url = f"http+unix://{self._uds}"
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._playing:
            task.cancel()
        if self._playing:
            await asyncio.wait(self._playing)
        await self._server.wait_closed()

    @property
    def requests(self) -> list[Request]:
        """Everything that was asked, connection after connection."""
        return [request for peer in self.peers for request in peer.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._playing.add(task)
        peer = Peer(reader, writer)
        script = self._scripts[min(len(self.peers), len(self._scripts) - 1)]
        self.peers.append(peer)
        try:
            # A client that leaves ends its script; a cancelled one is at its end because the test is.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await play(peer, script)
                await peer.gone()
        finally:
            peer.left.set()
            writer.transport.abort()
            self._playing.discard(task)

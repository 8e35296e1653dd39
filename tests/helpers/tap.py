"""A cable between two sides that may be cut, and that may change what goes through it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from cortex.tasks import Tasks

PIECE = 64 * 1024


@dataclass
class Tap:
    """Passes on what comes for `port`. What it does wrong is set on it, and happens once.

    cut_after   bytes towards the server; then every connection breaks, and nobody gets through until `plugged` is set
    flip_after  bytes towards the server; the first byte after them that is no ASCII is changed: never one of a head
    passed      bytes that went towards the server
    """

    port: int
    url: str = ""
    cut_after: int | None = None
    flip_after: int | None = None
    passed: int = 0
    cuts: int = 0
    flips: int = 0
    plugged: bool = True
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(writer.transport.abort)
            if not self.plugged:
                return
            theirs, to_server = await asyncio.open_connection("127.0.0.1", self.port)
            stack.callback(to_server.transport.abort)
            self._open |= {writer, to_server}
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, to_server, watched=True))
                both.create_task(self._pass(theirs, writer, watched=False))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, watched: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                piece = self._watch(data) if watched else data
                if not self.plugged:
                    break
                writer.write(piece)
                await writer.drain()
            writer.write_eof()

    def _watch(self, data: bytes) -> bytes:
        self.passed += len(data)
        if self.cut_after is not None and self.passed > self.cut_after:
            self.cut_after, self.plugged = None, False
            self.cuts += 1
            for writer in self._open:
                writer.transport.abort()
        if self.flip_after is not None and self.passed > self.flip_after:
            at = next((index for index, byte in enumerate(data) if byte > 127), None)
            if at is not None:
                self.flip_after = None
                self.flips += 1
                return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        return data


@contextlib.asynccontextmanager
async def tap(port: int) -> AsyncIterator[Tap]:
    made = Tap(port)
    tasks = Tasks("tap")
    server = await asyncio.start_server(
        lambda reader, writer: tasks.start("connection", made.serve(reader, writer)), "127.0.0.1", 0
    )
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        await tasks.aclose()

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
    cut_answers_after  the same, of bytes from the server
    flip_after  bytes towards the server; the first byte after them that is no ASCII is changed: never one of a head
    passed      bytes that went towards the server
    answered    bytes that came from it
    """

    port: int
    url: str = ""
    cut_after: int | None = None
    cut_answers_after: int | None = None
    flip_after: int | None = None
    passed: int = 0
    answered: int = 0
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
                both.create_task(self._pass(reader, to_server, back=False))
                both.create_task(self._pass(theirs, writer, back=True))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                piece = self._watch_answer(data) if back else self._watch(data)
                if not self.plugged:
                    break
                writer.write(piece)
                await writer.drain()
            writer.write_eof()

    def _watch(self, data: bytes) -> bytes:
        self.passed += len(data)
        if self.cut_after is not None and self.passed > self.cut_after:
            self.cut_after = None
            self._cut()
        if self.flip_after is not None and self.passed > self.flip_after:
            at = next((index for index, byte in enumerate(data) if byte > 127), None)
            if at is not None:
                self.flip_after = None
                self.flips += 1
                return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        return data

    def _watch_answer(self, data: bytes) -> bytes:
        self.answered += len(data)
        if self.cut_answers_after is not None and self.answered > self.cut_answers_after:
            self.cut_answers_after = None
            self._cut()
        return data

    def _cut(self) -> None:
        self.plugged = False
        self.cuts += 1
        for writer in self._open:
            writer.transport.abort()


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

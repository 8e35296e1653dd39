"""A neuron in front of no model: `python -m benchmarks.mock_neuron PORT` speaks the control plane and answers every chat at once.

A bare asyncio.Protocol over uvloop: it must outrun the proxies before it, nginx included. A request whose body says
`"stream":true` gets EVENTS events, one write each; between two of them the other connections have their turn.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

MODEL = "mock"
EVENTS = 500

_ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"mock","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Paris is the capital of France."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":8,"total_tokens":18}}'
)
_EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"mock",'
    b'"choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}\n\n'
)
_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def _json(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


_CHAT = _json(_ANSWER)
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


def control_plane(port: int) -> dict[bytes, bytes]:
    """The answer to each path that a gateway polls."""
    return {
        b"/discovery": _json(b'{"hostname":"mock","devices":[],"harnesses":["llamacpp"],"version":"0"}'),
        b"/health": _json(b'{"uptime_secs":1,"devices":[],"models":[],"memory_free_mb":1000}'),
        b"/models": _json(b'[{"id":"mock","harness":"llamacpp","status":"loaded","devices":[]}]'),
        b"/models/mock/endpoint": _json(b'{"url":"http://127.0.0.1:%d"}' % port),
    }


class MockNeuron(asyncio.Protocol):
    """One connection; keep-alive, one request at a time."""

    def __init__(self, control: dict[bytes, bytes]) -> None:
        self._control = control
        self._received = b""
        self._streaming: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self._writable.set()
        if self._streaming:
            self._streaming.cancel()

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        if (end := received.find(b"\r\n\r\n")) < 0:
            return
        head, begins = received[:end], end + 4
        length = int(found[1]) if (found := _LENGTH.search(head)) else 0
        if len(received) >= begins + length:
            self._received = received[begins + length :]
            self._answer(head, received[begins : begins + length])

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET"):
            path = head.split(b" ", 2)[1].partition(b"?")[0]
            self._transport.write(self._control.get(path, _NOT_FOUND))
        elif b'"stream":true' in body:
            self._streaming = asyncio.get_running_loop().create_task(self._stream())
        else:
            self._transport.write(_CHAT)

    async def _stream(self) -> None:
        write = self._transport.write
        write(_STREAM_HEAD)
        for _ in range(EVENTS):
            write(_CHUNK)
            await asyncio.sleep(0)
            await self._writable.wait()
        write(_LAST_CHUNK)


async def serve(port: int) -> None:
    control = control_plane(port)
    server = await asyncio.get_running_loop().create_server(lambda: MockNeuron(control), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))

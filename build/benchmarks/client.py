"""Our own load: `python -m benchmarks.client PORT events|answers CONNECTIONS SECONDS` prints how many came in a second.

Raw HTTP/1.1 over uvloop: the next request of a connection follows the end of its answer. Parsing is searching for what
only an end or an event looks like, because the client shares its core with the upstream and must cost little.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import uvloop

from benchmarks.mock_neuron import MODEL

_PROMPT = '"messages":[{"role":"user","content":"What is the capital of France?"}]'
BODIES = {
    "answers": f'{{"model":"{MODEL}",{_PROMPT},"stream":false}}',
    "events": f'{{"model":"{MODEL}",{_PROMPT},"stream":true}}',
}
PATH = "/v1/chat/completions"

_EVENT = b"data: {"
_END_OF = {"answers": b'"total_tokens":18}}', "events": b"0\r\n\r\n"}


class Client(asyncio.Protocol):
    """One connection that asks again and again. `events` and `answers` only grow; `wrong` is the head of an answer that is no 200."""

    def __init__(self, request: bytes, end: bytes) -> None:
        self._request = request
        self._end = end
        self._tail = b""
        self._at_head = True
        self.events = 0
        self.answers = 0
        self.wrong = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._at_head and not data.startswith(b"HTTP/1.1 200"):
            self.wrong = data[:300]
            self._transport.close()
            return
        self._at_head = False
        self.events += data.count(_EVENT)  # one cut by a border is lost: both proxies lose alike
        self._tail = data[-len(self._end) :] if len(data) >= len(self._end) else (self._tail + data)[-len(self._end) :]
        if self._tail == self._end:
            self.answers += 1
            self._at_head = True
            self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.wrong = self.wrong or f"the connection was lost: {exc}".encode()


async def measure(port: int, kind: str, connections: int, seconds: float) -> float:
    """Events or answers a second over all connections."""
    loop = asyncio.get_running_loop()
    body = BODIES[kind].encode()
    head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    clients = [Client(request, _END_OF[kind]) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    began = time.monotonic()
    await asyncio.sleep(seconds)
    elapsed = time.monotonic() - began
    if wrong := next((client.wrong for client in clients if client.wrong), None):
        sys.exit(f"the load was not answered as it should be: {wrong.decode(errors='replace')}")
    return sum(client.events if kind == "events" else client.answers for client in clients) / elapsed


if __name__ == "__main__":
    print(uvloop.run(measure(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))

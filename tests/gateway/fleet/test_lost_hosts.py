"""A host whose cable is pulled, and one that is only busy: who waits there hears of the first, and the second is left to work."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

from helpers.namespaces import Host, host
from helpers.waiting import until

from cortex.config.gateway import NeuronRef
from cortex.gateway.fleet.breakers import Breakers
from cortex.gateway.fleet.state import Fleet
from cortex.net.address import Address
from cortex.net.errors import ConnectionLost
from cortex.net.pool import Pool
from cortex.tasks import Tasks

PORT = 9000
UNACKED = 24  # of struct tcp_info
# Each connection's first request is answered, and nothing after that.
SERVER = f"""
import socket, threading
def serve(client):
    client.recv(65536)
    client.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n")
    while client.recv(65536):
        pass
server = socket.create_server(("0.0.0.0", {PORT}))
print("up", flush=True)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


@contextlib.contextmanager
def silent_server(there: Host) -> Iterator[None]:
    command = ["ip", "netns", "exec", there.name, sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            yield
        finally:
            process.kill()


def test_who_waits_at_a_lost_host_is_told_when_others_find_out(monkeypatch):
    """A request that the host has received is left to it as long as its kernel confirms; one that gets lost on the way is not."""
    monkeypatch.setattr("cortex.gateway.fleet.breakers.PROBE_S", 0.1)
    monkeypatch.setattr("cortex.net.http1.UNRECEIVED_S", 600.0)  # a connection's own patience ends nothing here

    async def scenario(there: Host) -> None:
        address, tasks = Address(there.address, PORT), Tasks("test")
        async with contextlib.AsyncExitStack() as stack:
            pool = await stack.enter_async_context(Pool(keepalive_s=60))
            stack.push_async_callback(tasks.aclose)
            fleet = Fleet([NeuronRef(name="a", endpoint=f"http://{address.host}:{PORT}")], unhealthy_after=3)
            breakers = Breakers(fleet, {}, pool, tasks)
            async with await pool.open(address, "GET", "/"), await pool.open(address, "GET", "/"):
                pass  # both rest now
            received = tasks.start("received", _quiet(pool, address))
            await until(lambda: _is_confirmed(pool))
            breakers.trip("a", address)  # wrongly: the host is there
            await asyncio.sleep(0)
            assert not received.done()
            there.swallow()
            lost = tasks.start("lost", _quiet(pool, address))
            await until(lost.done)
            assert isinstance(lost.result(), ConnectionLost)
            assert not received.done()

    with host() as there, silent_server(there):
        asyncio.run(scenario(there))


def _is_confirmed(pool: Pool) -> bool:
    """Whether a request is on its way, and its host's kernel has said that it has it."""
    asking = [each._transport for each in pool._open if each.answer is not None]
    sockets = [transport.get_extra_info("socket") for transport in asking if transport]
    infos = [sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28) for sock in sockets]
    return bool(infos) and all(struct.unpack_from("I", info, UNACKED) == (0,) for info in infos)


async def _quiet(pool: Pool, address: Address) -> Exception | None:
    try:
        await pool.open(address, "POST", "/", body=b"{}")
    except ConnectionLost as error:
        return error
    return None

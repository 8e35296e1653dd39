"""What a service manager hears, on a real socket."""

import asyncio
import os
import re
import socket
import subprocess
import sys

import pytest

from cortex import systemd


@pytest.fixture
def manager(tmp_path):
    """A listening notification socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(0)
        yield listening


async def hear(manager):
    async with asyncio.timeout(20):
        return (await asyncio.get_running_loop().sock_recv(manager, 4096)).decode()


def test_a_service_says_ready_alive_and_stopping(manager):
    """READY comes first, pings follow for as long as the loop turns, STOPPING comes before anything is stopped."""

    async def scenario():
        environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}
        async with systemd.ready(environ):
            assert await hear(manager) == "READY=1"
            assert [await hear(manager) for _ in range(3)] == ["WATCHDOG=1"] * 3
        assert environ == {}  # engines inherit nothing of it
        said = "WATCHDOG=1"
        while said == "WATCHDOG=1":
            said = await hear(manager)
        assert said == "STOPPING=1"

    asyncio.run(scenario())


def test_pings_meant_for_another_process_are_left_to_it(manager):
    """WATCHDOG_PID of another process: no ping."""

    async def scenario():
        environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}
        async with systemd.ready(environ):
            assert await hear(manager) == "READY=1"
        assert await hear(manager) == "STOPPING=1"

    asyncio.run(scenario())


def test_an_abstract_socket_is_one_with_an_at(tmp_path):
    """Containers give such addresses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(20)
        listening.bind(f"\0{tmp_path}")
        systemd.notify(f"@{tmp_path}", "READY=1")
        assert listening.recv(100) == b"READY=1"


def test_nobody_is_told_without_a_manager(tmp_path, caplog):
    """No variable: nothing. A socket that is gone: a line in the log, and the service goes on."""

    async def scenario():
        async with systemd.ready({}):
            pass
        async with systemd.ready({"NOTIFY_SOCKET": str(tmp_path / "gone")}):
            pass

    asyncio.run(scenario())
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "systemd was not told READY=1",
        "systemd was not told STOPPING=1",
    ]


def test_a_role_is_ready_when_its_port_answers(manager, tmp_path):
    """A gateway tells READY only once it can be reached, and STOPPING when a signal ends it."""
    file = tmp_path / "cortex.toml"
    file.write_text("[gateway]\nlisten = '127.0.0.1:0'\nmetrics_listen = '127.0.0.1:0'\n")
    command = [sys.executable, "-m", "cortex", "serve", "-c", str(file)]
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "CORTEX_LOG": "info"}
    manager.settimeout(60)
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as gateway:
        try:
            assert manager.recv(100) == b"READY=1"
            assert gateway.stderr
            port = next(
                found[1] for line in gateway.stderr if (found := re.search(r"gateway listens on \S+?:(\d+)", line))
            )
            with socket.create_connection(("127.0.0.1", int(port)), timeout=20):
                gateway.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            assert gateway.wait(timeout=60) == 0
        finally:
            gateway.kill()

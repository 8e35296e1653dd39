"""A running role takes over what changed in its files, and nothing else is touched."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.fake_neuron import STREAM_EVENTS, FakeNeuron, hold_at
from helpers.gateways import eventually
from helpers.roles import Role, running_role
from helpers.waiting import until

from cortex.tasks import running

WHOLE = b"".join(STREAM_EVENTS)


def write(folder: Path, *neurons: FakeNeuron, more: str = "", **settings: Any) -> Path:
    """cortex.toml, in one step as an editor saves it."""
    settings = {"listen": "127.0.0.1:0", "poll_interval_secs": 0.2, "drain_secs": 0, **settings}
    lines = ["[gateway]", *(f"{key} = {value!r}" for key, value in settings.items())]
    lines += [f'[[neurons]]\nname = "{neuron.name}"\nendpoint = "{neuron.endpoint}"' for neuron in neurons]
    (folder / "new").write_text("\n".join([*lines, more]))
    return (folder / "new").rename(folder / "cortex.toml")


@contextlib.asynccontextmanager
async def serving(file: Path) -> AsyncIterator[tuple[Role, httpx.AsyncClient]]:
    """A gateway process, and a client of it."""
    with running_role("--role", "gateway", "-c", file) as role:
        url = await asyncio.to_thread(lambda: role.url)
        async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
            yield role, client


async def chat(client: httpx.AsyncClient, model: str, **more: Any) -> httpx.Response:
    return await client.post("/v1/chat/completions", json={"model": model, "messages": [], **more})


async def status(client: httpx.AsyncClient) -> Any:
    return (await client.get("/status")).json()


async def names(client: httpx.AsyncClient) -> list[str]:
    return sorted(node["name"] for node in (await status(client))["nodes"] if node["healthy"])


def test_neurons_and_aliases_come_and_go_while_a_stream_runs(tmp_path):
    """A file that changed is enough: the stream ends whole, also on the neuron that left, and who stayed is not asked anew."""

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as a,
            FakeNeuron("b", {"org/b": "loaded"}) as b,
            FakeNeuron("c", {"org/c": "loaded"}) as c,
        ):
            gate = asyncio.Event()
            a.step = hold_at(2, gate)
            async with serving(write(tmp_path, a, b)) as (role, client):
                assert await names(client) == ["a", "b"]
                async with running(chat(client, "org/m", stream=True), name="stream") as stream:
                    await until(lambda: a.sent)
                    (tmp_path / "models.toml").write_text("[aliases]\nquick = 'org/c'\n")
                    write(tmp_path, b, c)

                    async def changed():
                        return await names(client) == ["b", "c"]

                    await eventually(changed)
                    told = await chat(client, "quick")
                    assert (told.status_code, told.headers["x-cortex-node"]) == (200, "c")
                    assert (await chat(client, "org/m")).status_code == 404
                    polls, gone = b.polls, a.polls
                    await until(lambda: b.polls > polls + 2)
                    assert a.polls == gone
                    assert b.asked.count("/discovery") == 1
                    gate.set()
                    assert (await stream).content == WHOLE
                await asyncio.to_thread(role.until, "neuron 'a' left, neuron 'c' came")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("cortex.toml", "[gateway]\nlisen = 'x'\n", "did you mean 'listen'"),
        ("cortex.toml", "[[neurons", "is not valid TOML"),
        ("models.toml", "[[models]]\nid = 1\nquant = []\n", "models.0.quant"),
    ],
)
def test_a_bad_file_changes_nothing_and_says_why(tmp_path, name, text, says):
    """In the log and on /status, until a good one comes; requests are served all the while."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded"}) as a:
            file = write(tmp_path, a)
            good = file.read_text()
            async with serving(file) as (role, client):
                before = (await status(client))["config"]
                assert (before["error"], before["restart_for"]) == (None, [])
                (tmp_path / name).write_text(text)
                role.send(signal.SIGHUP)

                async def complained():
                    return (await status(client))["config"]["error"]

                assert says in await eventually(complained)
                assert (await status(client))["config"]["loaded_at"] == before["loaded_at"]
                await asyncio.to_thread(role.until, "the configuration before stays in force: .*" + re.escape(says))
                assert (await chat(client, "org/m")).status_code == 200
                (tmp_path / name).write_text(good if name == "cortex.toml" else "")
                role.send(signal.SIGHUP)

                async def mended():
                    config = (await status(client))["config"]
                    return config["error"] is None and config["loaded_at"] > before["loaded_at"]

                await eventually(mended)

    asyncio.run(scenario())


async def refused(client: httpx.AsyncClient, length: int) -> int:
    """The status with which a body of `length` bytes is refused before it is sent."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % length)
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])


def test_sighup_reads_again_and_says_what_wants_a_restart(tmp_path):
    """An address cannot change while it is listened on: it is named in the log and on /status, the rest holds at once."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded"}) as a:
            file = write(tmp_path, a)
            async with serving(file) as (role, client):
                role.send(signal.SIGHUP)
                await asyncio.to_thread(role.until, "configuration taken over: nothing changed")
                write(tmp_path, a, listen="127.0.0.1:1", max_body_mb=1)
                role.send(signal.SIGHUP)
                await asyncio.to_thread(role.until, "restart only: gateway.listen")
                assert (await status(client))["config"]["restart_for"] == ["gateway.listen"]
                assert await refused(client, 2_000_000) == 413
                assert role.end() == 0

    asyncio.run(scenario())


def test_a_neuron_takes_over_a_new_token(tmp_path):
    """`token_file` is watched: the new token holds, the old one does not, and an address is left to a restart."""
    token, file = tmp_path / "token", tmp_path / "neuron.toml"
    token.write_text("first")
    file.write_text("port = 0\nstate_dir = '.'\ntoken_file = 'token'\n")

    async def scenario():
        with running_role("--role", "neuron", "-c", file) as role:
            url = await asyncio.to_thread(lambda: role.url)
            async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:

                async def admitted(shown):
                    return (await client.get("/models", headers={"authorization": f"Bearer {shown}"})).is_success

                assert await admitted("first")
                token.write_text("second!")
                await eventually(lambda: admitted("second!"))
                assert not await admitted("first")
                file.write_text("port = 1\nstate_dir = '.'\ntoken_file = 'token'\n")
                await asyncio.to_thread(role.until, "neuron: this holds after a restart only: port")
                assert "second!" not in role.log
            assert role.end() == 0

    asyncio.run(scenario())


def test_both_roles_of_one_process_follow_one_file(tmp_path):
    """`--role all`: the neuron's new token is the gateway's, too, and neither notices the other's change."""
    file = tmp_path / "cortex.toml"

    def text(token: str) -> str:
        return f"[gateway]\nlisten = '127.0.0.1:0'\npoll_interval_secs = 0.1\n[neuron]\nport = 0\nstate_dir = '{tmp_path}'\ntoken = '{token}'\n"

    file.write_text(text("first"))

    async def scenario():
        with running_role("--role", "all", "-c", file) as role:
            await asyncio.to_thread(role.until, "gateway listens on")
            url = "http://" + role.until(r"gateway listens on ([\d.:]+)")[1]
            async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
                assert await names(client) == ["local"]
                file.write_text(text("second"))
                role.send(signal.SIGHUP)
                await asyncio.to_thread(role.until, "gateway: configuration taken over: .*neuron 'local' changed")

                async def asked_again():
                    node = (await status(client))["nodes"][0]
                    return node["healthy"] and node["last_poll_age_secs"] < 0.5

                await eventually(asked_again)
            assert not re.search(r" /\S* 401\b", role.log)
            assert role.end() == 0

    asyncio.run(scenario())

"""SIGTERM: nothing new is taken, what runs may finish until the deadline, what is left ends with an error event, then engines end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.fake_neuron import STREAM_EVENTS, FakeNeuron, hang, hold_at
from helpers.live import ENDLESS_MODEL, endless
from helpers.roles import WITHIN_S, Role, running_role
from helpers.waiting import until

from cortex.tasks import Tasks, running


def gateway_file(folder: Path, *neurons: FakeNeuron, drain_secs: float) -> Path:
    file = folder / "cortex.toml"
    entries = [f"[[neurons]]\nname = '{neuron.name}'\nendpoint = '{neuron.endpoint}'" for neuron in neurons]
    file.write_text("\n".join([f"[gateway]\nlisten = '127.0.0.1:0'\ndrain_secs = {drain_secs}", *entries]))
    return file


async def stopping(role: Role) -> None:
    role.send(signal.SIGTERM)
    await asyncio.to_thread(role.until, "stopping: SIGTERM")


async def ended(role: Role) -> int:
    return await asyncio.to_thread(role.process.wait, WITHIN_S)


def last_error(text: bytes) -> dict[str, Any]:
    """The error of a stream's last event; everything before are whole events."""
    *events, last, rest = text.split(b"\n\n")
    assert rest == b""
    assert [event for event in events if not event.startswith((b"data: {", b":"))] == []
    error: dict[str, Any] = json.loads(last.removeprefix(b"data: "))["error"]
    return error


def test_a_gateway_ends_in_order(tmp_path):
    """New requests get 503; a stream that runs beyond the deadline, and whoever waits for a load or an answer, hears `shutting_down`."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded", "org/cold": "unloaded", "org/slow": "loaded"}) as a:
            a.step = hold_at(2)
            a.load_gate.clear()
            with running_role("--role", "gateway", "-c", gateway_file(tmp_path, a, drain_secs=1.5)) as role:
                url = await asyncio.to_thread(lambda: role.url)
                async with httpx.AsyncClient(base_url=url, timeout=WITHIN_S, trust_env=False) as client:
                    tasks = Tasks("test")

                    def ask(model: str, *, stream: bool) -> asyncio.Task[httpx.Response]:
                        body = {"model": model, "messages": [], "stream": stream}
                        return tasks.start(model, client.post("/v1/chat/completions", json=body))

                    streaming = ask("org/m", stream=True)
                    await until(lambda: len(a.sent) == 1)
                    a.chat = hang
                    silent = ask("org/slow", stream=False)
                    cold, cold_stream = ask("org/cold", stream=False), ask("org/cold", stream=True)
                    await until(lambda: len(a.sent) == 2 and a.loads)
                    await stopping(role)
                    refused = await client.post("/v1/chat/completions", json={"model": "org/m"})
                    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
                    assert "retry-after" in refused.headers
                    whole = (await streaming).content
                    assert whole.startswith(b"".join(STREAM_EVENTS[:2]))
                    assert last_error(whole)["code"] == "shutting_down"
                    assert last_error((await cold_stream).content)["code"] == "shutting_down"
                    for waiter in (silent, cold):
                        told = await waiter
                        assert (told.status_code, told.json()["error"]["code"]) == (503, "shutting_down")
                assert await ended(role) == 0
                assert "Traceback" not in role.log

    asyncio.run(scenario())


def test_what_finishes_in_time_is_whole(tmp_path):
    """The deadline is a limit, not a wait: a stream that ends lets the gateway end."""

    async def scenario():
        gate = asyncio.Event()
        async with FakeNeuron("a", {"org/m": "loaded"}) as a:
            a.step = hold_at(2, gate)
            with running_role("--role", "gateway", "-c", gateway_file(tmp_path, a, drain_secs=600)) as role:
                url = await asyncio.to_thread(lambda: role.url)
                async with httpx.AsyncClient(base_url=url, timeout=WITHIN_S, trust_env=False) as client:
                    body = {"model": "org/m", "messages": [], "stream": True}
                    async with running(client.post("/v1/chat/completions", json=body), name="stream") as stream:
                        await until(lambda: a.sent)
                        await stopping(role)
                        gate.set()
                        assert (await stream).content == b"".join(STREAM_EVENTS)
                assert await ended(role) == 0

    asyncio.run(scenario())


@pytest.mark.model
@pytest.mark.parametrize("role_name", ["neuron", "all"])
def test_a_neuron_ends_its_streams_and_then_its_engines(tmp_path, socket_dir, models_dir, role_name):
    """A real engine in the middle of an answer: an error event at the deadline, exit code 0, and no process is left."""
    keys = f"port = 0\nmodels_dir = '{models_dir}'\nstate_dir = '{tmp_path}'\nruntime_dir = '{socket_dir}'\n"
    limits = "limits = { drain_secs = 0.5 }\nhub = { enabled = false }\n"
    file = tmp_path / ("neuron.toml" if role_name == "neuron" else "cortex.toml")
    whole = "[gateway]\nlisten = '127.0.0.1:0'\ndrain_secs = 0.2\n[neuron]\n" if role_name == "all" else ""
    file.write_text(whole + keys + limits)

    async def scenario():
        with running_role("--role", role_name, "-c", file) as role:
            if role_name == "all":
                await asyncio.to_thread(role.until, "gateway listens on")
            url = "http://" + role.until(r"neuron listens on http://([\d.:]+)")[1]
            front = "http://" + role.until(r"gateway listens on ([\d.:]+)")[1] if role_name == "all" else url
            async with httpx.AsyncClient(timeout=WITHIN_S, trust_env=False) as client:
                assert (await client.post(f"{url}/models/load", json=ENDLESS_MODEL)).status_code == 200
                engines = children_of(role.process.pid)
                assert len(engines) == 1
                text, body = b"", endless()
                async with client.stream("POST", f"{front}/v1/chat/completions", json=body) as stream:
                    async for piece in stream.aiter_bytes():
                        if not text:
                            await stopping(role)
                        text += piece
                assert last_error(text)["code"] == "shutting_down"
            assert await ended(role) == 0
            assert [pid for pid in engines if Path(f"/proc/{pid}").exists()] == []
            assert list(socket_dir.iterdir()) == []

    asyncio.run(scenario())


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []

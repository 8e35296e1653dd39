"""Several hosts, one of which drops out of the network while many streams run: nobody hangs, and new requests go elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.effort import cases
from helpers.gateways import eventually
from helpers.live import SCRIPTED
from helpers.namespaces import Host, host
from helpers.roles import Role, running_role
from helpers.waiting import until

from cortex.tasks import Tasks

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.long]

STREAMS, TOKENS = cases(16, 100), cases(1500, 600)
IDLE_S = 4.0
HUNG_S = 120.0
MODEL = {"model_id": SCRIPTED, "threads": 1, "parallel": 64, "context": 64 * 1024, "max_queue_depth": 100}


@dataclass(frozen=True)
class Answer:
    """How a stream ended."""

    text: bytes
    node: str

    @property
    def whole(self) -> bool:
        return self.text.endswith(b"data: [DONE]\n\n") and b'"error"' not in self.text

    @property
    def error(self) -> str | None:
        """The code of the last event, if the rest are whole events and nothing follows it."""
        *events, last, rest = self.text.split(b"\n\n")
        well_formed = rest == b"" and all(event.startswith((b"data: {", b":")) for event in events)
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(last.removeprefix(b"data: "))["error"]["code"]) if well_formed else None
        return None


@contextlib.contextmanager
def fleet(folder: Path, models_dir: Path) -> Iterator[tuple[Role, list[Host]]]:
    """A gateway here, and a neuron with a real engine on each of two hosts."""
    with contextlib.ExitStack() as stack:
        hosts, entries = [], []
        for name in ("a", "b"):
            there = stack.enter_context(host())
            file = folder / f"{name}.toml"
            file.write_text(
                f"host = '0.0.0.0'\ninsecure = true\nmodels_dir = '{models_dir}'\nstate_dir = '{folder / name}'\n"
                "hub = { enabled = false }\nlimits = { drain_secs = 0 }\n"
            )
            process = there.start("--role", "neuron", "-c", str(file), CORTEX_LOG="warning")
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
            hosts.append(there)
            entries.append(f"[[neurons]]\nname = '{name}'\nendpoint = 'http://{there.address}:13131'")
        file = folder / "cortex.toml"
        settings = f"listen = '127.0.0.1:0'\nidle_timeout_secs = {IDLE_S}\npoll_interval_secs = 1\ndrain_secs = 0"
        file.write_text("\n".join([f"[gateway]\n{settings}", *entries]))
        yield stack.enter_context(running_role("--role", "gateway", "-c", file)), hosts


async def stream(client: httpx.AsyncClient, began: Callable[[str], None]) -> Answer:
    body = {
        "model": SCRIPTED,
        "stream": True,
        "max_tokens": TOKENS,
        "messages": [{"role": "user", "content": "[[loop]]"}],
    }
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        text = b""
        async for piece in answer.aiter_bytes():
            if not text:
                began(answer.headers.get("x-cortex-node", ""))
            text += piece
        assert answer.status_code == 200, text
        return Answer(text, answer.headers.get("x-cortex-node", ""))  # absent where comments came first


async def loaded_everywhere(client: httpx.AsyncClient) -> Any:
    nodes = (await client.get("/status")).json()["nodes"]
    return all(
        any(model["id"] == SCRIPTED and model["status"] == "loaded" for model in node["models"]) for node in nodes
    )


@pytest.mark.timeout(400)
@pytest.mark.parametrize("cut", [Host.swallow, Host.unplug], ids=["silently", "visibly"])
def test_a_partition_hangs_nobody(tmp_path, models_dir, record_property, cut):
    """Every client has a whole answer or one error event; whoever asks anew is served by the other host."""

    async def scenario(role: Role, hosts: list[Host]) -> None:
        url = await asyncio.to_thread(lambda: role.url)
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=HUNG_S, trust_env=False, limits=limits) as client:

            async def up():
                return all(node["healthy"] for node in (await client.get("/status")).json()["nodes"])

            await eventually(up)
            for name in ("a", "b"):
                told = await client.post("/models/load", json={**MODEL, "node": name})
                assert told.status_code == 200, told.text
            await eventually(lambda: loaded_everywhere(client))
            tasks, nodes = Tasks("test"), dict[int, str]()
            streams = [
                tasks.start(f"s{n}", stream(client, functools.partial(nodes.__setitem__, n))) for n in range(STREAMS)
            ]
            await until(lambda: len(nodes) == STREAMS)
            running = sum(nodes[n] == "a" and not each.done() for n, each in enumerate(streams))
            cut(hosts[0])
            waits = []
            for _ in range(8):
                asked = time.monotonic()
                told = await client.post(
                    "/v1/chat/completions",
                    json={"model": SCRIPTED, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]},
                )
                waits.append(round(time.monotonic() - asked, 2))
                assert (told.status_code, told.headers["x-cortex-node"]) == (200, "b"), told.text
            async with asyncio.timeout(HUNG_S):
                await asyncio.wait(streams)
            answers = [each.result() for each in streams]
            errors = [answer for answer in answers if not answer.whole]
            codes = {answer.error for answer in errors}
            record_property("new requests after the cut, seconds", waits)
            print(f"\n{running} streams ran there; {len(errors)} ended with {codes}; new requests took {waits} s")
            assert len(answers) == STREAMS
            assert codes <= {"upstream_timeout", "upstream_connection_error"}
            assert {answer.node for answer in errors} <= {"a", ""}
            assert running == 0 or errors
            await tasks.aclose()

    with fleet(tmp_path, models_dir) as (role, hosts):
        asyncio.run(scenario(role, hosts))

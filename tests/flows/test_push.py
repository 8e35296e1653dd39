"""A model's files from one neuron to another through the gateway: cut in the middle, changed on the way, and served at the end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from helpers.certificates import certificate
from helpers.gateways import Client, eventually, gateway
from helpers.live import SCRIPTED, SCRIPTED_MODEL, Live, live, neuron_config
from helpers.tap import Tap, tap
from helpers.waiting import until

from cortex.gateway.fleet import sync
from cortex.neuron import app as neuron_app

pytestmark = pytest.mark.model

TOKEN = "t0ken-of-the-fleet"
ORG = "org/scripted"
SETTINGS = {key: value for key, value in SCRIPTED_MODEL.items() if key != "model_id"}


@contextlib.asynccontextmanager
async def neuron(folder: Path, **more: Any) -> AsyncIterator[Live]:
    """A real neuron that gives and takes files."""
    folder.mkdir(exist_ok=True)
    config = neuron_config(folder, **({"token": TOKEN, "sync": {"accept": True}} | more))
    async with neuron_app.running(config) as handle, live(f"http://{handle.listen}") as client:
        client.http.headers["authorization"] = f"Bearer {TOKEN}"
        yield client


def ref(name: str, url: str, **more: str) -> dict[str, str]:
    return {"name": name, "endpoint": url, "token": TOKEN, **more}


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def give(folder: Path, model: Path, name: str = "scripted.gguf") -> Path:
    """A models_dir with the model in it."""
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(model)
    return folder


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.asynccontextmanager
async def fleet(*refs: dict[str, str], catalogue: dict[str, Any] | None = None, **more: Any) -> AsyncIterator[Client]:
    """A gateway that has heard of its neurons."""
    async with gateway(refs, catalogue, poll_interval_secs=0.1, **more) as client:
        for each in refs:
            await eventually(functools.partial(_is_up, client, each["name"]))
        yield client


async def _is_up(client: Client, name: str) -> bool:
    return bool((await client.node(name))["healthy"])


async def push(client: Client, **more: Any) -> Any:
    answer = await client.post("/models/push", json={"model_id": SCRIPTED, "node": "b", **more})
    return answer.status_code, answer.json()


async def listed(at: Live) -> list[str]:
    return [entry["id"] for entry in await at.get("/models?all=true")]


def test_a_push_survives_a_cut_a_restart_and_a_flipped_byte(tmp_path, scripted_model):
    """Only what is missing is sent again; until all of it is verified no model is listed; then the neuron serves it."""
    size = scripted_model.stat().st_size

    async def half_way(cable: Tap, client: Client, b: Live) -> None:
        status, told = await push(client, wait=False)
        assert (status, told["status"], told["from"]) == (202, "pushing", "a"), told
        assert (await b.get(f"/jobs/{told['job']['id']}"))["model_id"] == SCRIPTED
        await until(lambda: cable.cuts)

    async def scenario():
        async with (
            neuron(give(tmp_path / "a", scripted_model)) as a,
            tap(0) as cable,
            gateway([ref("a", a.url), ref("b", cable.url)], poll_interval_secs=0.1) as client,
        ):
            cable.cut_after, cable.flip_after = size // 2, size // 4
            async with neuron(tmp_path / "b") as b:
                cable.port = port_of(b.url)
                await eventually(lambda: _is_up(client, "a"))
                await eventually(lambda: _is_up(client, "b"))
                await half_way(cable, client, b)
                (partial,) = (tmp_path / "b/.incoming").glob("*.incomplete")
                assert 0 < partial.stat().st_size < size
                assert await listed(b) == []
            came, passed = partial.stat().st_size, cable.passed
            async with neuron(tmp_path / "b") as b:  # started again: what had come is still there
                cable.port, cable.plugged = port_of(b.url), True
                await eventually(lambda: _is_there(client))
                assert sha256(tmp_path / "b/scripted.gguf") == sha256(scripted_model)
                assert (cable.cuts, cable.flips) == (1, 1)
                assert cable.passed - passed < size - came + size // 4
                assert await listed(b) == [SCRIPTED]
                assert not (tmp_path / "b/.incoming").exists()
                assert await push(client) == (200, {"status": "present", "node": "b"})
                loaded = await client.post("/models/load", json={**SCRIPTED_MODEL, "node": "b"})
                assert loaded.json() == {"status": "loaded", "node": "b"}
                said = await client.chat(SCRIPTED, messages=[{"role": "user", "content": "Hello"}], max_tokens=8)
                assert said.headers["x-cortex-node"] == "b"
                assert "scripted" in said.text

    asyncio.run(scenario())


async def _is_there(client: Client) -> bool:
    """Pushed again, as often as the gateway believes that the neuron is down."""
    status, told = await push(client)
    assert status in (200, 503), told
    return bool(status == 200)


def test_a_request_brings_the_files_to_where_the_model_may_run(tmp_path, scripted_model):
    """With `[sync] allow` a cold load copies first; the client only waits. Without it there is no such place."""
    pinned = {"models": [{"id": ORG, "pinned_on": ["b"], "harness": "llamacpp", **SETTINGS}]}

    async def scenario(*, allow: bool):
        async with (
            neuron(give(tmp_path / "a", scripted_model, "org/scripted/scripted-F32.gguf")) as a,
            neuron(tmp_path / "b") as b,
            fleet(
                ref("a", a.url), ref("b", b.url), catalogue=pinned, sync={"allow": allow, "rate": "500MB/s"}
            ) as client,
        ):
            plan = (await client.get(f"/plan?model={ORG}")).json()
            said = await client.chat(ORG, messages=[{"role": "user", "content": "Hello"}], max_tokens=8)
            if not allow:
                assert said.status_code == 404, said.text
                return
            assert plan["nodes"][0]["sync_from"] == "a"
            assert (said.status_code, said.headers["x-cortex-node"]) == (200, "b"), said.text
            assert "scripted" in said.text
            assert sha256(tmp_path / "b/org/scripted/scripted-F32.gguf") == sha256(scripted_model)

    asyncio.run(scenario(allow=False))
    (tmp_path / "a/org/scripted/scripted-F32.gguf").unlink()
    asyncio.run(scenario(allow=True))


def test_a_copy_whose_source_dies_goes_on_from_another_one(tmp_path, scripted_model):
    """What has come stays, and the rest is brought by a neuron with the same file under whatever name; the client only waits."""
    size = scripted_model.stat().st_size
    pinned = {"models": [{"id": ORG, "pinned_on": ["b"], "harness": "llamacpp", **SETTINGS}]}

    async def scenario():
        async with (
            neuron(give(tmp_path / "a", scripted_model, "org/scripted/scripted-F32.gguf")) as a,
            neuron(tmp_path / "b") as b,
            neuron(give(tmp_path / "c", scripted_model, "org/scripted/of-c-F32.gguf")) as c,
            tap(port_of(a.url)) as to_a,
            tap(port_of(c.url)) as to_c,
            fleet(
                ref("a", to_a.url),
                ref("b", b.url),
                ref("c", to_c.url),
                catalogue=pinned,
                sync={"allow": True},
                unhealthy_after=1,
            ) as client,
        ):
            to_a.cut_answers_after = to_a.answered + size // 2
            before = to_c.answered
            said = await client.chat(ORG, messages=[{"role": "user", "content": "Hello"}], max_tokens=8)
            assert (said.status_code, said.headers["x-cortex-node"]) == (200, "b"), said.text
            assert (to_a.cuts, to_a.plugged) == (1, False)
            assert size // 8 < to_c.answered - before < size
            assert sha256(tmp_path / "b/org/scripted/scripted-F32.gguf") == sha256(scripted_model)

    asyncio.run(scenario())


def test_a_copy_ends_when_no_source_is_left_and_takes_no_other_files(tmp_path, scripted_model, monkeypatch):
    """A model of the same name is not the same file: the error names who was asked, and what came is kept."""
    monkeypatch.setattr(sync, "PAUSE_S", 0.001)  # between attempts to reach who is dead
    size = scripted_model.stat().st_size
    (tmp_path / "c").mkdir()
    (tmp_path / "c/scripted.gguf").write_bytes(scripted_model.read_bytes() + b"another")

    async def scenario():
        async with (
            neuron(give(tmp_path / "a", scripted_model)) as a,
            neuron(tmp_path / "b") as b,
            neuron(tmp_path / "c") as c,
            tap(port_of(a.url)) as to_a,
            fleet(ref("a", to_a.url), ref("b", b.url), ref("c", c.url)) as client,
        ):
            to_a.cut_answers_after = to_a.answered + size // 2
            status, told = await push(client)
            assert (status, told["error"]["code"]) == (502, "copy_failed"), told
            assert "neither 'a' nor 'c'" in told["error"]["message"]
            (partial,) = (tmp_path / "b/.incoming").glob("*.incomplete")
            assert 0 < partial.stat().st_size < size
            assert await listed(b) == []

    asyncio.run(scenario())


def test_a_copy_that_fails_is_the_answer_to_whoever_waits_for_the_model(tmp_path, scripted_model):
    """Something else is in the file's place: nobody waits for ever, and that is left alone."""
    pinned = {"models": [{"id": SCRIPTED, "pinned_on": ["b"], **SETTINGS}]}

    async def scenario():
        async with (
            neuron(give(tmp_path / "a", scripted_model)) as a,
            neuron(tmp_path / "b") as b,
            fleet(ref("a", a.url), ref("b", b.url), catalogue=pinned, sync={"allow": True}) as client,
        ):
            (tmp_path / "b/scripted.gguf").write_bytes(b"another")
            said = await client.chat(SCRIPTED)
            assert (said.status_code, said.json()["error"]["code"]) == (409, "file_conflict"), said.text
            assert (tmp_path / "b/scripted.gguf").read_bytes() == b"another"

    asyncio.run(scenario())


def test_a_resident_model_is_brought_to_where_it_belongs(tmp_path, scripted_model):
    """Nobody asks for it: it is copied, then loaded."""
    resident = {"models": [{"id": SCRIPTED, "pinned_on": ["b"], **SETTINGS}], "resident": {"models": [SCRIPTED]}}

    async def scenario():
        async with (
            neuron(give(tmp_path / "a", scripted_model)) as a,
            neuron(tmp_path / "b") as b,
            fleet(ref("a", a.url), ref("b", b.url), catalogue=resident, sync={"allow": True}),
        ):

            async def copied():
                return await listed(b) == [SCRIPTED]

            await eventually(copied)
        assert sha256(tmp_path / "b/scripted.gguf") == sha256(scripted_model)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("of_a", "of_b", "asked", "status", "says"),
    [
        ({}, {"sync": {}}, {}, 409, "[sync] accept = true"),
        ({"token": None, "sync": {}}, {}, {}, 409, "[sync] offer = true"),
        ({"sync": {"offer": False}}, {}, {}, 409, "'a', which gives no files"),
        ({}, {}, {"node": "c"}, 404, "known are: a, b"),
        ({}, {}, {"model_id": "absent"}, 404, "absent"),
        ({}, {}, {"source": "b"}, 404, "it is on a"),
        ({}, {}, {"rate": "fast"}, 400, "50MB/s"),
    ],
    ids=["not accepted", "no token", "not offered", "no such node", "no such model", "not there", "no rate"],
)
def test_what_cannot_be_pushed_is_one_sentence(tmp_path, scripted_model, of_a, of_b, asked, status, says):
    """The answer says what is missing, and on which host."""

    async def scenario():
        async with (
            neuron(give(tmp_path / "a", scripted_model), **of_a) as a,
            neuron(tmp_path / "b", **of_b) as b,
            fleet(ref("a", a.url), ref("b", b.url)) as client,
        ):
            refused, told = await push(client, **asked)
            assert (refused, says in told["error"]["message"]) == (status, True), told
            assert await listed(b) == []

    asyncio.run(scenario())


def test_the_command_line_pushes_and_says_where_from(tmp_path, scripted_model):
    """`cortex push` follows the copy to its end; what is there needs none."""

    async def scenario():
        async with (
            neuron(give(tmp_path / "a", scripted_model)) as a,
            neuron(tmp_path / "b") as b,
            fleet(ref("a", a.url), ref("b", b.url)) as client,
        ):

            async def cortex(*arguments: str) -> tuple[int, str, str]:
                command = [sys.executable, "-m", "cortex", "push", SCRIPTED, *arguments, "-e", str(client.base_url)]
                done = await asyncio.to_thread(
                    subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
                )
                return done.returncode, done.stdout, done.stderr

            code, out, err = await cortex("b", "--rate", "500MB/s", "--json")
            assert (code, json.loads(out)) == (0, {"status": "pushed", "node": "b", "from": "a"}), err
            assert "scripted: " in err
            assert (await cortex("b"))[1] == "scripted is on b: it was there already\n"
        assert sha256(tmp_path / "b/scripted.gguf") == sha256(scripted_model)

    asyncio.run(scenario())


def test_files_travel_over_tls_like_everything_between_roles(tmp_path, scripted_model):
    """Neurons that are known by https are asked by https, and shown their token."""
    trusted = certificate(tmp_path, "both")

    async def scenario():
        async with (
            neuron(give(tmp_path / "a", scripted_model), **trusted.listener) as a,
            neuron(tmp_path / "b", **trusted.listener) as b,
        ):
            refs = [
                ref(name, at.url.replace("http:", "https:"), tls_ca=str(trusted.certificate))
                for name, at in (("a", a), ("b", b))
            ]
            async with fleet(*refs) as client:
                assert (await push(client))[1]["status"] == "pushed"
        assert sha256(tmp_path / "b/scripted.gguf") == sha256(scripted_model)

    asyncio.run(scenario())

"""`/models/{id}/files`: what a neuron gives of its models' files, and what it takes, piece by piece."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from helpers.gateways import eventually
from helpers.gguf_bytes import tiny
from helpers.live import neuron_config
from helpers.waiting import until

from cortex.neuron import app as neuron_app
from cortex.neuron.api import files
from cortex.neuron.sync import receptions
from cortex.wire.sync import content_digest

TOKEN = "t0ken"
REPO = "org/repo-GGUF"
PARTS = [f"{REPO}/BF16/repo-BF16-{number:05}-of-00002.gguf" for number in (1, 2)]
PROJECTOR = f"{REPO}/mmproj-F16.gguf"
FILES = {
    PARTS[0]: tiny(3000, general__name="1"),
    PARTS[1]: tiny(60000, general__name="2"),
    PROJECTOR: tiny(10, general__architecture="clip"),
}
NEW = tiny(2000, general__name="new")
PLACE = "org/new/new-F16.gguf"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def announced(*files: tuple[str, bytes], sender: str = "s", **more: Any) -> dict[str, Any]:
    told = [{"name": name, "size": len(data), "sha256": sha256(data), **more} for name, data in files or [(PLACE, NEW)]]
    return {"files": told, "sender": sender}


def path(model_id: str, data: bytes | None = None) -> str:
    return f"/models/{quote(model_id, safe='')}/files" + (f"/{sha256(data)}" if data is not None else "")


@contextlib.asynccontextmanager
async def neuron(folder: Path, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    folder.mkdir(exist_ok=True)
    config = neuron_config(folder, **({"token": TOKEN, "sync": {"accept": True}} | more))
    bearer = {"authorization": f"Bearer {TOKEN}"}
    async with (
        neuron_app.running(config) as handle,
        httpx.AsyncClient(base_url=f"http://{handle.listen}", headers=bearer, trust_env=False, timeout=20) as http,
    ):
        yield http


async def put(http: httpx.AsyncClient, data: bytes, first: int, last: int, **more: Any) -> httpx.Response:
    """A piece of NEW, or what is said to be one."""
    piece = more.pop("piece", data[first : last + 1])
    headers = {
        "content-range": f"bytes {first}-{last}/{more.pop('size', len(data))}",
        "content-digest": more.pop("digest", content_digest(piece)),
    }
    return await http.put(path("org/new", data), content=piece, headers=headers)


async def job_of(http: httpx.AsyncClient, begun: httpx.Response) -> Any:
    assert begun.status_code == 202, begun.text
    return (await http.get(f"/jobs/{begun.json()['job']['id']}?wait=10")).json()


async def listed(http: httpx.AsyncClient) -> list[str]:
    return [entry["id"] for entry in (await http.get("/models?all=true")).json()]


def test_a_neuron_offers_the_files_of_a_model_and_gives_them_in_pieces(tmp_path):
    """All parts and the projector by name, size and sha256; a piece has its range and its own digest."""

    async def scenario():
        for name, data in FILES.items():
            place = tmp_path / "a" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        async with neuron(tmp_path / "a") as http:
            offer = (await http.get(path(REPO))).json()
            assert offer["model_id"] == REPO
            assert [(file["name"], file["size"], file["sha256"]) for file in offer["files"]] == [
                (name, len(data), sha256(data)) for name, data in FILES.items()
            ]
            data = FILES[PARTS[1]]
            answer = await http.get(path(REPO, data), headers={"range": "bytes=100-199"})
            assert (answer.status_code, answer.content) == (206, data[100:200])
            assert answer.headers["content-range"] == f"bytes 100-199/{len(data)}"
            assert answer.headers["content-digest"] == content_digest(data[100:200])
            last = await http.get(path(REPO, data), headers={"range": f"bytes={len(data) - 5}-{len(data) + 99}"})
            assert last.content == data[-5:]
            assert (await http.get("/discovery")).json()["offers_files"] is True

    asyncio.run(scenario())


def test_files_are_read_beside_everything_else(tmp_path, monkeypatch):
    """Until their sha256 is known it is said how far they are read; nobody has to wait for that with his hands bound."""
    monkeypatch.setattr(files, "WAIT_S", 0.0)

    async def scenario():
        (tmp_path / "m.gguf").write_bytes(NEW)
        async with neuron(tmp_path) as http:
            first = await http.get(path("m"))
            assert (first.status_code, first.json()["bytes_total"]) == (202, len(NEW))

            async def offered():
                return (await http.get(path("m"))).status_code == 200

            await eventually(offered)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"headers": {"range": "bytes=5-4"}}, 400, None),
        ({"headers": {"range": "bytes=0-99999999"}}, 400, None),
        ({"headers": {}}, 400, None),
        ({"headers": {"range": "bytes=99999999-99999999"}}, 416, "range_not_satisfiable"),
        ({"data": b"never offered", "headers": {"range": "bytes=0-1"}}, 404, "not_offered"),
    ],
    ids=["backwards", "too much", "no range", "behind the end", "not offered"],
)
def test_what_cannot_be_given_is_refused(tmp_path, more, status, code):
    """Only pieces of files that were offered are given, and none larger than the largest."""

    async def scenario():
        (tmp_path / "m.gguf").write_bytes(NEW)
        async with neuron(tmp_path) as http:
            assert (await http.get(path("m"))).status_code == 200
            answer = await http.get(path("m", more.get("data", NEW)), headers=more["headers"])
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
            assert (await http.get(path("absent"))).status_code == 404
            assert (await http.get(path("../../etc/passwd"))).status_code == 404

    asyncio.run(scenario())


def test_a_file_that_changes_is_another_one(tmp_path):
    """What was offered is not given from a file that has changed since; the next offer has the new one."""

    async def scenario():
        (tmp_path / "m.gguf").write_bytes(NEW)
        async with neuron(tmp_path) as http:
            await http.get(path("m"))
            other = tiny(2000, general__name="nex")
            (tmp_path / "m.gguf").unlink()
            (tmp_path / "m.gguf").write_bytes(other)
            refused = await http.get(path("m", NEW), headers={"range": "bytes=0-9"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "file_changed")
            assert (await http.get(path("m"))).json()["files"][0]["sha256"] == sha256(other)

    asyncio.run(scenario())


def test_files_come_piece_by_piece_and_are_a_model_when_all_of_them_are_right(tmp_path):
    """Cut, continued by another neuron's start, and listed at the end without one."""

    async def scenario():
        async with neuron(tmp_path) as http:
            begun = await http.post(path("org/new"), json=announced())
            assert begun.json()["files"] == [{"sha256": sha256(NEW), "have": 0}]
            assert (await put(http, NEW, 0, 999)).json() == {"sha256": sha256(NEW), "have": 1000}
            assert (await http.get(f"/jobs/{begun.json()['job']['id']}")).json()["bytes_done"] == 1000
            assert await listed(http) == []
        async with neuron(tmp_path) as http:
            begun = await http.post(path("org/new"), json=announced())
            assert begun.json()["files"][0]["have"] == 1000
            assert (await put(http, NEW, 1000, len(NEW) - 1)).status_code == 200
            job = await job_of(http, begun)
            assert (job["stage"], job["bytes_done"]) == ("done", len(NEW))
            assert await listed(http) == ["org/new"]
            assert (tmp_path / PLACE).read_bytes() == NEW
            assert not (tmp_path / ".incoming").exists()
            again = await job_of(http, await http.post(path("org/new"), json=announced()))
            assert again["stage"] == "done"  # what is there is looked at, and nothing has to come

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"digest": content_digest(b"other")}, 400, "piece_corrupt"),
        ({"digest": ""}, 400, "piece_corrupt"),
        ({"first": 5, "last": 9}, 409, "not_next"),
        ({"size": 7}, 400, "bad_piece"),
        ({"piece": b"longer than that"}, 400, "bad_piece"),
        ({"data": b"never announced"}, 404, "not_begun"),
    ],
    ids=["changed", "no digest", "not the next", "another size", "another length", "not announced"],
)
def test_a_piece_that_is_not_right_is_refused_and_not_kept(tmp_path, more, status, code):
    """The refusal says which mistake it is; the right piece is taken afterwards."""

    async def scenario():
        async with neuron(tmp_path) as http:
            await http.post(path("org/new"), json=announced())
            wrong = {"data": NEW, "first": 0, "last": 9} | more
            answer = await put(http, **wrong)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
            assert (await put(http, NEW, 0, 9)).json()["have"] == 10

    asyncio.run(scenario())


def test_files_that_are_not_what_was_announced_get_no_place(tmp_path):
    """Every piece was right, and the whole is not: its name is told, nothing is listed, and the next try begins anew."""

    async def scenario():
        other = NEW[:-1] + b"x"
        async with neuron(tmp_path) as http:
            begun = await http.post(path("org/new"), json=announced())
            piece = {"content-range": f"bytes 0-{len(other) - 1}/{len(other)}", "content-digest": content_digest(other)}
            assert (await http.put(path("org/new", NEW), content=other, headers=piece)).status_code == 200
            job = await job_of(http, begun)
            assert (job["stage"], job["error"]["code"]) == ("failed", "file_corrupt")
            assert f"'{PLACE}' came broken" in job["error"]["message"]
            assert await listed(http) == []
            begun = await http.post(path("org/new"), json=announced())
            assert begun.json()["files"][0]["have"] == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("../out.gguf", 400, "bad_file_name"),
        ("/out.gguf", 400, "bad_file_name"),
        ("a/../../out.gguf", 400, "bad_file_name"),
        (".incoming/x.gguf", 400, "bad_file_name"),
        ("a\\b.gguf", 400, "bad_file_name"),
        ("x" * 300 + ".gguf", 400, "bad_file_name"),
        ("run.sh", 400, "bad_file_name"),
        ("taken.gguf", 409, "file_conflict"),
        ("out/x.gguf", 409, "file_conflict"),
    ],
)
def test_files_get_no_place_that_is_not_theirs(tmp_path, name, status, code):
    """Names that lead elsewhere, and places that others have, are refused before a byte comes."""

    async def scenario():
        here = tmp_path / "here"
        here.mkdir()
        (tmp_path / "elsewhere").mkdir()
        (here / "out").symlink_to(tmp_path / "elsewhere")
        (here / "taken.gguf").write_bytes(b"other")
        async with neuron(here) as http:
            answer = await http.post(path("org/new"), json=announced((name, NEW)))
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
            assert (await http.get("/jobs")).json() == []
        assert list((tmp_path / "elsewhere").iterdir()) == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "config", [{"sync": {}}, {"sync": {"accept": False, "offer": False}}, {"token": None, "sync": {}}]
)
def test_a_neuron_takes_and_gives_files_only_as_it_says(tmp_path, config):
    """Taking wants `accept = true`, giving `offer`, and both a token."""

    async def scenario():
        (tmp_path / "m.gguf").write_bytes(NEW)
        async with neuron(tmp_path, **config) as http:
            assert (await http.post(path("org/new"), json=announced())).status_code == 403
            assert (await put(http, NEW, 0, 9)).status_code == 403
            gives = config == {"sync": {}}
            assert (await http.get(path("m"))).status_code == (200 if gives else 403)
            told = (await http.get("/discovery")).json()
            assert (told["offers_files"], told["accepts_files"]) == (gives, False)

    asyncio.run(scenario())


def test_of_two_senders_one_sends(tmp_path):
    """The other one hears that it has joined, and follows the same job; other files under that name have to wait."""

    async def scenario():
        async with neuron(tmp_path) as http:
            first = (await http.post(path("org/new"), json=announced())).json()
            second = (await http.post(path("org/new"), json=announced(sender="t"))).json()
            assert (first["joined"], second["joined"]) == (False, True)
            assert first["job"]["id"] == second["job"]["id"]
            other = await http.post(path("org/new"), json=announced((PLACE, b"x")))
            assert (other.status_code, other.json()["error"]["code"]) == (503, "being_brought")

    asyncio.run(scenario())


def test_a_sender_that_is_silent_has_gone(tmp_path, monkeypatch):
    """Its job ends with the reason, what came stays, and another one may go on at once."""
    monkeypatch.setattr(receptions, "FRESH_S", 0.0)

    async def scenario():
        async with neuron(tmp_path) as http:
            begun = await http.post(path("org/new"), json=announced())
            monkeypatch.setattr(receptions, "SILENCE_S", 0.05)  # from the next piece on
            await put(http, NEW, 0, 9)
            assert (await job_of(http, begun))["error"]["code"] == "sender_gone"
            partial = tmp_path / ".incoming" / f"{sha256(NEW)}.incomplete"
            await until(lambda: partial.read_bytes() == NEW[:10])
            monkeypatch.undo()
            again = (await http.post(path("org/new"), json=announced(sender="t"))).json()
            assert (again["files"][0]["have"], again["joined"]) == (10, False)

    asyncio.run(scenario())

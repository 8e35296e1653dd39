"""Receptions under trouble: every job ends, every lock is given back, and no disk is waited for on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from helpers.gguf_bytes import tiny
from helpers.live import neuron_config
from helpers.waiting import until

from cortex.errors import CortexError
from cortex.neuron.models.jobs import JobRecord, Jobs
from cortex.neuron.models.library import Library
from cortex.neuron.models.source.arrival import Arrival
from cortex.neuron.models.source.incoming import Incoming
from cortex.neuron.models.source.locks import taken
from cortex.neuron.sync import receptions as module
from cortex.neuron.sync.receptions import Receptions
from cortex.tasks import running
from cortex.wire.sync import Arrived, ModelFile, Receive, content_digest

DATA = tiny(2000, general__name="new")
FILE = ModelFile(name="org/new/new-F16.gguf", size=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())
ASKED = Receive(files=(FILE,), sender="s")
MODEL = "org/new"


class _Taking:
    """Receptions into `folder`."""

    def __init__(self, folder: Path) -> None:
        self.jobs = Jobs()
        self.library = Library(neuron_config(folder))
        self.receptions = Receptions(folder, self.library, self.jobs, max_body_bytes=1 << 20)
        self.lock = folder / ".incoming" / f"{FILE.sha256}.lock"

    async def begin(self) -> JobRecord:
        return self.jobs.get((await self.receptions.begin(MODEL, ASKED)).job.id)

    async def put(self, first: int, last: int) -> Arrived:
        piece = DATA[first : last + 1]
        return await self.receptions.take(MODEL, FILE.sha256, (first, last, FILE.size), piece, content_digest(piece))

    @property
    def lock_is_free(self) -> bool:
        if lock := taken(self.lock):
            lock.close()
        return lock is not None


@contextlib.asynccontextmanager
async def taking(folder: Path) -> AsyncIterator[_Taking]:
    taking = _Taking(folder)
    async with taking.receptions.running():
        yield taking


@contextlib.contextmanager
def held_up(monkeypatch: Any, owner: Any, name: str) -> Any:
    """A blocking method that waits in its thread until it is told to go on; yields (it is there, go on)."""
    there, go_on, original = threading.Event(), threading.Event(), getattr(owner, name)

    def waits(*args: Any) -> Any:
        there.set()
        assert go_on.wait(30)
        return original(*args)

    monkeypatch.setattr(owner, name, waits)
    try:
        yield there, go_on
    finally:
        go_on.set()
        monkeypatch.setattr(owner, name, original)


def test_a_reception_that_breaks_in_an_unknown_way_is_told(tmp_path, monkeypatch):
    """Its job has ended, with no word of the inside, and the next sender may begin anew at once."""

    async def broken(_library: Library) -> None:
        raise RuntimeError("of the inside")

    async def scenario():
        async with taking(tmp_path) as here:
            monkeypatch.setattr(Library, "rescan", broken)
            job = await here.begin()
            await here.put(0, len(DATA) - 1)
            ended = await job.wait(30)
            assert ended.finished
            assert ended.error
            assert ended.error["code"] == "internal_server_error"
            assert "of the inside" not in ended.error["message"]
            monkeypatch.undo()
            assert (await (await here.begin()).wait(30)).stage == "done"

    asyncio.run(scenario())


def test_a_neuron_that_stops_ends_its_receptions(tmp_path):
    """Whoever follows the job hears that this server is shutting down; what came is free for the next start."""

    async def scenario():
        async with taking(tmp_path) as here:
            job = await here.begin()
            await here.put(0, 9)
        assert job.failure
        assert job.failure.code == "shutting_down"
        assert here.lock_is_free

    asyncio.run(scenario())


def test_a_sender_that_leaves_while_its_files_are_looked_at_keeps_nothing(tmp_path, monkeypatch):
    """The locks are given back when it has gone, and not when somebody collects the garbage; no job was begun."""

    async def scenario():
        async with taking(tmp_path) as here:
            with held_up(monkeypatch, Arrival, "have") as (there, go_on):
                async with running(here.begin(), name="begin") as begin:
                    await until(there.is_set)
                    begin.cancel()
                    go_on.set()
                    with pytest.raises(asyncio.CancelledError) as left:  # its traceback keeps what its frames held
                        await begin
            assert left.tb
            assert here.lock_is_free
            assert here.jobs.all() == []
            assert (await here.begin()).snapshot.stage == "fetching"

    asyncio.run(scenario())


def test_disks_are_waited_for_in_threads(tmp_path, monkeypatch):
    """What is there is looked up, and what is left is tidied, beside everything else that the neuron does."""
    threads: dict[str, set[int]] = {}

    def seen(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def noted(*args: Any) -> Any:
            threads.setdefault(name, set()).add(threading.get_ident())
            return original(*args)

        monkeypatch.setattr(owner, name, noted)

    async def scenario():
        async with taking(tmp_path) as here:
            seen(Arrival, "have")
            seen(Incoming, "tidy")
            seen(Path, "exists")
            job = await here.begin()
            await here.put(0, len(DATA) - 1)
            assert (await job.wait(30)).stage == "done"

    asyncio.run(scenario())
    assert set(threads) == {"have", "tidy", "exists"}
    assert all(threading.get_ident() not in used for used in threads.values()), threads


def test_a_piece_that_is_still_being_written_keeps_the_next_sender_waiting(tmp_path, monkeypatch):
    """A disk slower than patience: no two senders ever write to one file, and what was written counts."""

    async def scenario():
        monkeypatch.setattr(module, "SILENCE_S", 0.05)
        async with taking(tmp_path) as here:
            job = await here.begin()
            with held_up(monkeypatch, Arrival, "wanted") as (there, go_on):
                async with running(here.put(0, 9), name="first") as first:
                    await until(there.is_set)
                    await until(here.receptions._opening.locked)  # its time is over, and it waits
                    async with (
                        running(here.put(0, 9), name="second") as second,
                        running(here.begin(), name="b") as anew,
                    ):
                        await asyncio.wait([anew, second], timeout=0.05)
                        assert not any((anew.done(), second.done(), job.snapshot.finished))
                        go_on.set()
                        assert (await first).have == 10
                        with pytest.raises(CortexError) as refused:
                            await second
                        assert refused.value.code == "not_begun"
                        assert (await anew) is not job
            assert (await job.wait(30)).error

    asyncio.run(scenario())

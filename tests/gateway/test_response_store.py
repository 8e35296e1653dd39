"""The store of responses: bounded, shared, its keys' alone."""

import asyncio
import contextlib
import logging
import random
import sqlite3
import stat
from dataclasses import replace

import pytest

from cortex.config.responses import ResponsesSection
from cortex.errors import CortexError
from cortex.gateway.response_store import ResponseStore
from cortex.wire.responses import Kept


def kept(number, text="hi"):
    output = [{"id": f"msg_{number}_0", "type": "message", "text": text}]
    return Kept({"id": f"resp_{number}", "output": output}, [{"id": f"in_{number}", "text": text}])


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def in_store(tmp_path, scenario, clock=None, **settings):
    """Run `scenario(store)` with these settings."""

    async def run():
        section = ResponsesSection(store=True, database=tmp_path / "state" / "r.sqlite", **settings)
        async with ResponseStore(lambda: section, clock or Clock()).open() as store:
            await scenario(store)

    asyncio.run(run())


async def present(store, numbers, owner="alice"):
    return [number for number in numbers if await store.find(owner, f"resp_{number}")]


def test_what_is_kept_is_found_again_also_by_another_gateway(tmp_path):
    """In the shape in which it was kept, until it is forgotten; the file is its user's alone."""

    async def scenario(store):
        settings = store._settings()
        async with ResponseStore(lambda: settings, Clock()).open() as other:
            await asyncio.gather(*(each.keep("alice", kept(number)) for number, each in enumerate((store, other) * 20)))
            assert await present(other, range(40)) == list(range(40))
            assert await other.find("alice", "resp_0") == kept(0)
            assert (await store.outputs("alice", ["resp_1", "resp_3", "nobody"])).keys() == {"msg_1_0", "msg_3_0"}
            assert await other.forget("alice", "resp_0")
            assert not await store.forget("alice", "resp_0")
            assert await store.find("alice", "resp_0") is None
        assert stat.S_IMODE(settings.database.stat().st_mode) == 0o600

    in_store(tmp_path, scenario)


def test_nobody_else_finds_or_deletes_it(tmp_path):
    """Another owner, and nobody, get what they would get of a response that never was."""

    async def scenario(store):
        await store.keep("alice", kept(1))
        for other in ("bob", ""):
            assert await store.find(other, "resp_1") is None
            assert await store.outputs(other, ["resp_1"]) == {}
            assert not await store.forget(other, "resp_1")
        assert await present(store, [1]) == [1]

    in_store(tmp_path, scenario)


def test_the_oldest_goes_when_there_are_too_many(tmp_path):
    """By number."""

    async def scenario(store):
        for number in range(10):
            await store.keep("alice", kept(number))
        assert await present(store, range(10)) == [7, 8, 9]

    in_store(tmp_path, scenario, max_entries=3)


def test_the_oldest_goes_when_they_are_too_large(tmp_path, caplog):
    """By size; one that is larger than all the room is not kept, and displaces nobody."""
    noise = random.Random(1).randbytes(200_000).hex()

    async def scenario(store):
        for number in range(6):
            await store.keep("alice", kept(number, noise))
        left = await present(store, range(6))
        assert 0 < len(left) < 6
        assert left == list(range(6))[-len(left) :]
        await store.keep("alice", kept(99, noise * 8))
        assert await present(store, range(100)) == left

    with caplog.at_level(logging.WARNING):
        in_store(tmp_path, scenario, max_mb=1)
    assert "max_mb" in caplog.text


def test_what_is_small_only_when_it_is_packed_is_not_kept(tmp_path, caplog):
    """Every turn of a conversation unpacks it whole: a client could make it grow without end."""

    async def scenario(store):
        await store.keep("alice", kept(1, "0" * 500_000))
        await store.keep("alice", kept(2, "0" * 1_100_000))
        assert await present(store, range(3)) == [1]

    with caplog.at_level(logging.WARNING):
        in_store(tmp_path, scenario, max_mb=1)
    assert "max_mb" in caplog.text


def test_the_urls_of_images_count_as_well(tmp_path):
    """They may be as long as their hosts like, and a host may answer to any of them with the same image."""

    async def scenario(store):
        for number in range(6):
            await store.keep("alice", replace(kept(number), images={f"http://{number}" + "x" * 300_000: "data:x"}))
        assert await present(store, range(6)) == [3, 4, 5]

    in_store(tmp_path, scenario, max_mb=1)


def test_an_image_is_kept_once_and_goes_with_the_last_response_that_was_shown_it(tmp_path):
    """However many turns and URLs name it; where there is no room for it, its response is kept without it."""
    image, huge = "data:image/png;base64," + "A" * 300_000, "data:image/png;base64," + "B" * 1_100_000

    def shown(number, **images):
        return replace(kept(number), images=images)

    async def scenario(store):
        def images():
            with contextlib.closing(sqlite3.connect(tmp_path / "state" / "r.sqlite")) as file:
                return file.execute("SELECT coalesce(sum(length(data)), 0) FROM cortex_images").fetchone()[0]

        for number in range(9):
            await store.keep("alice", shown(number, **{f"http://{number}": image, "http://x": image}))
        assert await present(store, range(9)) == list(range(9))
        assert (await store.find("alice", "resp_8")).images == {"http://8": image, "http://x": image}
        assert await store.find("bob", "resp_8") is None
        assert images() == len(image)
        await store.keep("alice", shown(9, **{"http://y": huge}))
        assert (await store.find("alice", "resp_9")).images == {}
        assert images() == len(image)
        for number in range(9):
            assert images() == len(image)
            await store.forget("alice", f"resp_{number}")
        assert images() == 0

    in_store(tmp_path, scenario, max_mb=1)


def test_images_count_as_what_is_too_large(tmp_path):
    """The oldest go, with what they were shown."""

    async def scenario(store):
        for number in range(6):
            data = f"data:image/png;base64,{number}" + "A" * 300_000
            await store.keep("alice", replace(kept(number), images={"http://x": data}))
        assert await present(store, range(6)) == [3, 4, 5]

    in_store(tmp_path, scenario, max_mb=1)


def test_what_is_too_old_is_gone(tmp_path):
    """At once, and from the file with the next that is kept, or with the next start."""
    clock = Clock()

    async def ids(store):
        def read():
            with store._opened().transaction() as sql:
                return [row[0] for row in sql("SELECT id FROM cortex_responses")]

        return await asyncio.wrap_future(store._thread.submit(read))

    async def scenario(store):
        await store.keep("alice", kept(1))
        clock.now += 61
        assert await store.find("alice", "resp_1") is None
        await store.keep("alice", kept(2))
        assert await ids(store) == ["resp_2"]

    async def later(store):
        assert await ids(store) == []

    in_store(tmp_path, scenario, clock, max_age_secs=60)
    clock.now += 61
    in_store(tmp_path, later, clock, max_age_secs=60)


def test_a_store_that_fails_loses_no_answer(tmp_path, caplog):
    """What cannot be kept is logged, what cannot be found is 503; when the file is there again, it is used again."""
    blocked = tmp_path / "state"
    blocked.write_text("a file where the folder should be")

    async def scenario(store):
        await store.keep("alice", kept(1))
        with pytest.raises(CortexError) as failed:
            await store.find("alice", "resp_1")
        assert (failed.value.status, failed.value.retry_after) == (503, 5)
        blocked.unlink()
        await store.keep("alice", kept(2))
        assert await present(store, [1, 2]) == [2]

    in_store(tmp_path, scenario)
    assert "cannot be used" in caplog.text

"""The files of one fetch, from the hub to their places. A name appears when its content is whole and verified, and not before."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from cortex import errors
from cortex.neuron.models.source.download import (
    DownloadError,
    Progress,
    Wanted,
    download,
    in_thread,
    sha256_of,
    verify,
)
from cortex.neuron.models.source.locks import locked
from cortex.neuron.models.source.room import check_room, no_room
from cortex.wire.fleet import JobStage

OnStage = Callable[[JobStage], None]
OnProgress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Item:
    """A file, its name for people, and its place. `linked`: that is a link to its content, as in the cache; else the file itself."""

    name: str
    wanted: Wanted
    place: Path
    linked: bool = True

    async def is_there(self) -> bool:
        """Whether nothing has to come. In the cache content is named by what it is; elsewhere it is looked at."""
        if self.linked:
            return self.wanted.blob.exists()
        if not self.place.is_file() or self.place.stat().st_size != self.wanted.size:
            return False
        return self.wanted.sha256 is None or await sha256_of(self.place) == self.wanted.sha256


@dataclass(slots=True)
class Transfer:
    """All `items`, one after the other. Raises CortexError; what came before an error or a cancellation is kept."""

    client: httpx.AsyncClient
    items: Sequence[Item]
    on_stage: OnStage
    on_progress: OnProgress
    pause_s: float
    _there: list[Item] = field(default_factory=list, init=False)

    async def run(self) -> None:
        async with AsyncExitStack() as locks:
            for lock in sorted({item.wanted.lock for item in self.items}):  # in one order: no two block each other
                await locks.enter_async_context(locked(lock, self._show_others_progress))
            self._there = [item for item in self.items if await item.is_there()]
            await self._make_room()
            await self._each(JobStage.fetching, self._download)
            await self._each(JobStage.verifying, verify)
            for item in reversed(self.items):  # a model's first part last: until then it is none
                with _told(item):
                    await in_thread(_link if item.linked else _put, item)

    async def _make_room(self) -> None:
        """The folder, and the certainty that everything fits, before the first byte."""
        folder = self.items[0].wanted.blob.parent
        await in_thread(folder.mkdir, parents=True, exist_ok=True)
        check_room(folder, self._total - self._on_disk, self.items[0].name)

    async def _download(self, wanted: Wanted, on_bytes: Progress) -> None:
        await download(self.client, wanted, on_bytes, pause_s=self.pause_s)

    async def _each(self, stage: JobStage, work: Callable[[Wanted, Progress], Awaitable[None]]) -> None:
        """`work` for every file that is not there yet, with progress over all of them."""
        self.on_stage(stage)
        before = 0
        for item in self.items:
            if item not in self._there:
                with _told(item):
                    await work(item.wanted, functools.partial(self._report, before))
            before += item.wanted.size
            self._report(before, 0)

    def _report(self, before: int, done: int) -> None:
        self.on_progress(before + done, self._total)

    @property
    def _total(self) -> int:
        return sum(item.wanted.size for item in self.items)

    @property
    def _on_disk(self) -> int:
        return sum(item.wanted.size if item in self._there else item.wanted.bytes_on_disk() for item in self.items)

    def _show_others_progress(self) -> None:
        """Another process downloads a file of ours: what is on disk tells how far it is."""
        self.on_progress(self._on_disk, self._total)


@contextmanager
def _told(item: Item) -> Iterator[None]:
    """What went wrong with a file, as a client may see it. Other trouble with the cache is the Hub's to tell."""
    try:
        yield
    except DownloadError as error:
        if error.corrupt:
            raise errors.upstream_failed(f"'{item.name}' came broken: {error}", code="download_corrupt") from error
        raise errors.unavailable(
            f"'{item.name}' could not be fetched: {error}; what came is kept", code="hub_unreachable"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise no_room(item.name, item.wanted.size, 0, item.place.parent) from error


def _put(item: Item) -> None:
    """The verified content at its place, unless it is there."""
    if item.wanted.partial.exists():
        put(item.wanted.partial, item.place)


def put(partial: Path, place: Path) -> None:
    """Give verified content its name: a power cut must not leave a name with half of its content."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    place.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(place)
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _link(item: Item) -> None:
    """The verified content under its name in the cache, and the link to it."""
    blob, link = item.wanted.blob, item.place
    if not blob.exists():
        put(item.wanted.partial, blob)
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(blob, link.parent))
    fresh.replace(link)

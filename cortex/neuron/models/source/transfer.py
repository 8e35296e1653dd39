"""The files of one fetch, from the hub to their place in the cache.

Layout as the library has it: content in `blobs/ETAG`, links to it in `snapshots/COMMIT/name`, the commit in `refs/main`.
A link appears when its content is whole and verified, and not before.
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.models.source.download import DownloadError, Progress, Wanted, download, in_thread, locked, verify
from cortex.wire.fleet import JobStage

MIB = 1 << 20
SPARE_BYTES = 256 * MIB  # what a download leaves free on the disk

OnStage = Callable[[JobStage], None]
OnProgress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Item:
    """A file, its name for people, and the link that it is to have in the cache."""

    name: str
    wanted: Wanted
    link: Path


@dataclass(frozen=True, slots=True)
class Transfer:
    """All `items`, one after the other. Raises CortexError; what came before an error or a cancellation is kept."""

    client: httpx.AsyncClient
    items: Sequence[Item]
    on_stage: OnStage
    on_progress: OnProgress
    pause_s: float

    async def run(self) -> None:
        async with AsyncExitStack() as locks:
            for item in sorted(self.items, key=lambda item: item.wanted.lock):  # in one order: no two block each other
                await locks.enter_async_context(locked(item.wanted.lock, self._show_others_progress))
            await self._make_room()
            await self._each(JobStage.fetching, self._download)
            await self._each(JobStage.verifying, verify)
            for item in self.items:
                with _told(item):
                    await in_thread(_place, item)

    async def _make_room(self) -> None:
        """The folder, and the certainty that everything fits, before the first byte."""
        folder = self.items[0].wanted.blob.parent
        await in_thread(folder.mkdir, parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free - SPARE_BYTES
        needed = self._total - self._on_disk
        if needed > free:
            raise _no_room(self.items[0].name, needed, free)

    async def _download(self, wanted: Wanted, on_bytes: Progress) -> None:
        await download(self.client, wanted, on_bytes, pause_s=self.pause_s)

    async def _each(self, stage: JobStage, work: Callable[[Wanted, Progress], Awaitable[None]]) -> None:
        """`work` for every file that is not in the cache yet, with progress over all of them."""
        self.on_stage(stage)
        before = 0
        for item in self.items:
            if not item.wanted.blob.exists():
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
        return sum(item.wanted.bytes_on_disk() for item in self.items)

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
        raise _no_room(item.name, item.wanted.size, 0) from error


def _no_room(name: str, needed: int, free: int) -> CortexError:
    """507: permanent until somebody makes room."""
    needed_mb, free_mb = -(-needed // MIB), max(0, free // MIB)
    return CortexError(
        f"'{name}' needs {needed_mb} MiB in the model cache, and {free_mb} MiB are free there",
        status=507,
        code="insufficient_storage",
        extras={"required_mb": needed_mb, "free_mb": free_mb},
    )


def _place(item: Item) -> None:
    """The verified content under its name, the link to it, and `main` at its commit."""
    blob, link = item.wanted.blob, item.link
    if not blob.exists():
        with item.wanted.partial.open("rb") as file:
            os.fsync(file.fileno())  # a power cut must not leave a name with half of its content
        item.wanted.partial.replace(blob)
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(blob, link.parent))
    fresh.replace(link)

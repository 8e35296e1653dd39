"""The files of one fetch, from the hub to their place in the cache.

Layout as the library has it: content in `blobs/ETAG`, links to it in `snapshots/COMMIT/name`, the commit in `refs/main`.
A link appears when its content is whole and verified, and not before.
"""

from __future__ import annotations

import errno
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

SPARE_BYTES = 256 << 20  # what a download leaves free on the disk

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
            for item in sorted(
                self.items, key=lambda item: item.wanted.lock
            ):  # in one order: no two wait for each other
                await locks.enter_async_context(locked(item.wanted.lock, self._show_others_progress))
            await self._each(JobStage.fetching, self._download)
            await self._each(JobStage.verifying, verify)
            for item in self.items:
                with _told(item):
                    await in_thread(_place, item)

    async def _download(self, wanted: Wanted, on_bytes: Progress) -> None:
        await in_thread(wanted.blob.parent.mkdir, parents=True, exist_ok=True)
        _check_room(wanted)
        await download(self.client, wanted, on_bytes, pause_s=self.pause_s)

    async def _each(self, stage: JobStage, work: Callable[[Wanted, Progress], Awaitable[None]]) -> None:
        """`work` for every file that is not in the cache yet, with progress over all of them."""
        self.on_stage(stage)
        before = 0
        for item in self.items:
            if not item.wanted.blob.exists():
                with _told(item):
                    await work(item.wanted, lambda done, before=before: self.on_progress(before + done, self._total))  # type: ignore[misc]
            before += item.wanted.size
            self.on_progress(before, self._total)

    @property
    def _total(self) -> int:
        return sum(item.wanted.size for item in self.items)

    def _show_others_progress(self) -> None:
        """Another process downloads a file of ours: what is on disk tells how far it is."""
        self.on_progress(sum(item.wanted.bytes_on_disk() for item in self.items), self._total)


@contextmanager
def _told(item: Item) -> Iterator[None]:
    """Errors as a client may see them."""
    try:
        yield
    except DownloadError as error:
        if error.corrupt:
            raise errors.upstream_failed(f"'{item.name}' came broken: {error}", code="download_corrupt") from error
        raise errors.unavailable(
            f"'{item.name}' could not be fetched: {error}; what came is kept", code="hub_unreachable"
        ) from error
    except OSError as error:
        raise _disk_error(item, error) from error


def _disk_error(item: Item, error: OSError) -> CortexError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_room(item.name, item.wanted.size)
    return CortexError(
        f"'{item.name}' cannot be written to the cache: {error.strerror}", status=500, code="cache_error"
    )


def no_room(name: str, size: int, free: int = 0) -> CortexError:
    """507: permanent until somebody makes room."""
    mib = 1 << 20
    return CortexError(
        f"'{name}' needs {size // mib} MiB in the model cache, and {free // mib} MiB are free there",
        status=507,
        code="insufficient_storage",
        extras={"required_mb": size // mib, "free_mb": free // mib},
    )


def _check_room(wanted: Wanted) -> None:
    free = shutil.disk_usage(wanted.blob.parent).free
    needed = wanted.size - wanted.bytes_on_disk()
    if needed > free - SPARE_BYTES:
        raise no_room(wanted.blob.name[:12], needed, free)


def _place(item: Item) -> None:
    """The verified content under its name, the link to it, and `main` at its commit."""
    blob, link = item.wanted.blob, item.link
    if not blob.exists():
        item.wanted.partial.replace(blob)
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(blob, link.parent))
    fresh.replace(link)

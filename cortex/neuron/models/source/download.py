"""One file from a hub, continued where the last attempt broke off, and checked against what the hub promised.

The library's own download is not used for the bytes: since 2.x it throws away what it has when it fails, and a model has
many GiB. The cache's layout and locks are the library's, so both can share it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

import httpx

P = ParamSpec("P")
T = TypeVar("T")

PIECE = 4 << 20  # bytes written at once: few enough to show progress, many enough to hide the thread's cost
HASHED = 64 << 20  # bytes hashed between two looks at whether anybody still wants the result
_COME_BACK = frozenset({408, 425, 429, 500, 502, 503, 504})
ATTEMPTS = 4  # in a row that brought nothing, before the hub counts as gone

Progress = Callable[[int], None]


class DownloadError(Exception):
    """The file could not be had. `corrupt`: it came, and is not what the hub promised."""

    def __init__(self, message: str, *, corrupt: bool = False) -> None:
        super().__init__(message)
        self.corrupt = corrupt


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to be had: its address, its size in bytes, its sha256 when the hub tells, and where it goes."""

    url: str
    size: int
    sha256: str | None
    blob: Path
    lock: Path

    @property
    def partial(self) -> Path:
        """What has come so far; the library's name for it."""
        return self.blob.with_name(self.blob.name + ".incomplete")

    def bytes_on_disk(self) -> int:
        """How much of it is there."""
        return _size(self.blob) or _size(self.partial)


async def download(client: httpx.AsyncClient, wanted: Wanted, on_bytes: Progress, *, pause_s: float = 1.0) -> None:
    """Fill `wanted.partial` up to its size. `on_bytes(n)` says how much is there. Raises DownloadError; keeps what came."""
    failures = 0
    while not _is_full(wanted):
        have = _size(wanted.partial)
        on_bytes(have)
        reason = await _attempt(client, wanted, have, on_bytes)
        failures = failures + 1 if _size(wanted.partial) <= have else 0
        if failures >= ATTEMPTS:
            raise DownloadError(f"{failures} attempts in a row brought nothing ({reason})")
        if reason:
            await asyncio.sleep(pause_s * failures)
    if _size(wanted.partial) > wanted.size:
        wanted.partial.unlink()
        raise DownloadError(f"it has more than the {wanted.size} bytes that were promised", corrupt=True)
    on_bytes(wanted.size)


def _is_full(wanted: Wanted) -> bool:
    return wanted.partial.exists() and _size(wanted.partial) >= wanted.size


async def _attempt(client: httpx.AsyncClient, wanted: Wanted, have: int, on_bytes: Progress) -> str:
    """Get as much as comes. Why it broke off, or nothing when it ended by itself."""
    headers = {"accept-encoding": "identity"} | ({"range": f"bytes={have}-"} if have else {})
    try:
        async with client.stream("GET", wanted.url, headers=headers) as response:
            if response.status_code in _COME_BACK:
                return f"the hub answered {response.status_code}"
            start = _start(response, have)
            with wanted.partial.open("r+b" if wanted.partial.exists() else "w+b") as file:
                file.truncate(start)
                file.seek(start)
                await _write(response, file, wanted.size, on_bytes)
    except httpx.RequestError as error:
        return str(error) or type(error).__name__
    return ""


def _start(response: httpx.Response, have: int) -> int:
    """Where the answer's bytes belong in the file."""
    if response.status_code == 200:  # some proxies ignore Range
        return 0
    if response.status_code != 206:
        raise DownloadError(f"the hub answered {response.status_code}")
    if not response.headers.get("content-range", "").startswith(f"bytes {have}-"):
        raise DownloadError("the hub sent another part of the file than was asked for")
    return have


async def _write(response: httpx.Response, file: BinaryIO, size: int, on_bytes: Progress) -> None:
    """Pieces to the disk in a thread. What came before a break is kept."""
    pending = bytearray()
    try:
        async for chunk in response.aiter_raw():
            pending += chunk
            if len(pending) >= PIECE:
                on_bytes(await in_thread(_flush, file, pending))
            if file.tell() + len(pending) > size:
                break
    finally:
        on_bytes(await in_thread(_flush, file, pending))


def _flush(file: BinaryIO, pending: bytearray) -> int:
    file.write(pending)
    file.flush()
    pending.clear()
    return file.tell()


async def verify(wanted: Wanted, on_bytes: Progress) -> None:
    """Compare the partial file with the promised sha256. What is wrong is removed, so that it is not continued."""
    if wanted.sha256 is None:
        return
    if await sha256_of(wanted.partial, on_bytes) != wanted.sha256:
        wanted.partial.unlink()
        raise DownloadError("its sha256 is not the one that was promised", corrupt=True)


async def sha256_of(path: Path, on_bytes: Progress = lambda _: None) -> str:
    """In hexadecimal. A large file takes minutes: it is read in a thread, and whoever is cancelled stops it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size, at = os.fstat(file.fileno()).st_size, -1
        while at < file.tell() < size:  # a file that shrinks meanwhile ends it, too
            at = file.tell()
            on_bytes(at)
            await in_thread(_hash, file, digest.update)
    return digest.hexdigest()


def _hash(file: BinaryIO, update: Callable[[bytes], None]) -> None:
    end = file.tell() + HASHED
    while file.tell() < end and (piece := file.read(1 << 20)):
        update(piece)


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Like asyncio.to_thread, but when this returns the thread has ended, also after a cancellation: it may use files that are closed next."""
    future = asyncio.get_running_loop().run_in_executor(None, lambda: work(*args, **kwargs))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0

"""A running role's configuration is read again on SIGHUP, and when one of its files has changed.

1. Read and validate everything, and try what it names. A mistake ends it here: nothing has changed, and the log says why.
2. Hand it to the neuron, then to the gateway, which take over what differs.

Files are looked at every WATCH_S, and believed once they were the same twice: a file that is just being written is not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cortex.cli import roles
from cortex.cli.outcome import Failure
from cortex.config.loader import ConfigError
from cortex.net.tls import TlsError
from cortex.tasks import running

WATCH_S = 1.0

log = logging.getLogger(__name__)
State = Mapping[
    Path, tuple[int, int, int] | None
]  # what tells a changed file: time of change, size, inode. None: absent


@dataclass(frozen=True, slots=True)
class Part:
    """What of the process a configuration is for: a gateway or a neuron."""

    check: Callable[[roles.Settings], None]
    apply: Callable[[roles.Settings], Coroutine[Any, Any, None]]
    reject: Callable[[str], None]


@contextlib.asynccontextmanager
async def reloading(
    args: argparse.Namespace, environ: Mapping[str, str], read: State, parts: Iterable[Part]
) -> AsyncIterator[None]:
    """For the time of a block. `read`: the files as they were when the configuration in force was read.

    Without a file there is nothing to read again, and SIGHUP means what it always does.
    """
    if args.config is None:
        yield
        return
    async with running(_Reloader(args, environ, read, tuple(parts)).run(), name="configuration"):
        yield


class _Reloader:
    def __init__(
        self, args: argparse.Namespace, environ: Mapping[str, str], read: State, parts: tuple[Part, ...]
    ) -> None:
        self._args = args
        self._environ = dict(environ)
        self._parts = parts
        self._taken = read
        self._asked = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._asked.set)

    async def run(self) -> None:
        seen = self._taken
        while True:
            asked = await self._asked_for()
            now = await asyncio.to_thread(state_of, self._taken)
            if asked or now == seen != self._taken:
                self._taken = now
                await self._reload("SIGHUP" if asked else "a file has changed")
            seen = now

    async def _asked_for(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCH_S):
                await self._asked.wait()
        asked = self._asked.is_set()
        self._asked.clear()
        return asked

    async def _reload(self, why: str) -> None:
        log.info("reading the configuration again: %s", why)
        files: tuple[Path, ...] = ()
        try:
            settings, files = await asyncio.to_thread(self._read)
            for part in self._parts:
                part.check(settings)
        except (Failure, TlsError) as error:
            self._taken = await asyncio.to_thread(self._also_named, files)
            self._reject(str(error))
            return
        except Exception:  # a mistake of ours must not end the watch
            log.exception("the configuration could not be read")
            self._reject("internal error; the log has the details")
            return
        found = await asyncio.to_thread(state_of, files)
        self._taken = {
            file: self._taken.get(file, state) for file, state in found.items()
        }  # as it was before it was read
        for part in self._parts:
            try:
                await part.apply(settings)
            except Exception:  # likewise
                log.exception("the configuration could not be taken over whole")
                part.reject("internal error; the log has the details")

    def _read(self) -> tuple[roles.Settings, tuple[Path, ...]]:
        settings = roles.settings(self._args, self._environ)
        return settings, roles.watched_files(self._args, self._environ, settings)

    def _also_named(self, files: tuple[Path, ...]) -> State:
        """What is watched, and what a refused configuration names: it may be refused for what is not there yet."""
        if not files:
            with contextlib.suppress(ConfigError):
                files = roles.watched_files(self._args, self._environ, roles.Settings())
        return {**state_of(files), **self._taken}

    def _reject(self, why: str) -> None:
        log.error("the configuration before stays in force: %s", "; ".join(why.splitlines()))
        for part in self._parts:
            part.reject(why)


def state_of(files: Iterable[Path]) -> State:
    return {file: _state(file) for file in files}


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

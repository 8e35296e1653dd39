"""The neuron's side of an engine: start it, read its log, notice its end, stop it.

engine = await EngineProcess.start(spec, deadline_s=300)
died = await engine.wait()                      # a fact, whenever it comes
await engine.stop()                             # reaped; its memory is back

Works on asyncio's own loop and on uvloop. `start` must run in the process's main thread: the kernel ends an engine when
the *thread* that started it ends, and the event loop of a neuron runs there.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import orjson

from cortex.executable import engine_command
from cortex.net.address import Address
from cortex.net.errors import NetError
from cortex.net.pool import Pool
from cortex.neuron.engine import patience
from cortex.neuron.engine.environment import without_secrets
from cortex.neuron.engine.logtail import LogTail
from cortex.neuron.engine.outcome import EngineExit, EngineFailed, exit_of, failure_of
from cortex.neuron.engine.spec import EngineSpec
from cortex.tasks import Tasks

__all__ = ["EngineExit", "EngineFailed", "EngineProcess"]

MAX_SOCKET_PATH_BYTES = 107  # struct sockaddr_un, with its final zero
HEALTH_PAUSE_S = 0.05
LOG_END_S = 5.0  # after its end an engine's log is read for at most this long: a grandchild may hold the pipe
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / (1024 * 1024)


class EngineProcess:
    """One running engine. Created by `start` alone."""

    def __init__(self, spec: EngineSpec, process: Process, log: LogTail) -> None:
        self.spec = spec
        self.pid = process.pid
        self.address = Address("localhost", 0, spec.socket_path)
        self.started_at = time.time()
        self.info: dict[str, Any] = {}
        self._process = process
        self._log = log
        self._asked = False
        self._tasks = Tasks(f"engine {spec.alias}")
        reading = self._tasks.start("log", self._read_log())
        self._ended = self._tasks.start("end", self._end(reading))

    def __repr__(self) -> str:
        return f"<EngineProcess {self.spec.alias} pid={self.pid}{' ended' if self._ended.done() else ''}>"

    @classmethod
    async def start(
        cls,
        spec: EngineSpec,
        *,
        deadline_s: float,
        on_log: Callable[[str], None] | None = None,
        on_memory: Callable[[int], None] | None = None,
    ) -> Self:
        """A running engine that answers `/health`. Raises EngineFailed; whatever happens, no process is left behind then.

        The deadline moves while weights still come into memory; `on_memory` hears how many MiB are there.
        """
        _prepare_socket(spec.socket_path)
        spec = dataclasses.replace(spec, parent_pid=os.getpid())
        engine = cls(spec, await _spawn(spec), LogTail(on_log))
        try:
            await patience.within(engine._become_ready(), deadline_s, engine.memory_mb, on_memory)
        except TimeoutError:
            await engine.stop(0)
            raise EngineFailed(
                f"it was not ready within {deadline_s:g} s", kind="timeout", log_tail=engine._log.lines
            ) from None
        except BaseException:
            await engine.stop(0)
            raise
        return engine

    async def _become_ready(self) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the engine was started without pipes")
        with contextlib.suppress(ConnectionError):  # it died already: its exit says more
            stdin.write(self.spec.to_json())
            await stdin.drain()
        message = _message(await stdout.readline())
        if message or not self.spec.command:  # a program that the engine has become says nothing here
            if not message.get("ready"):
                raise await self._failure(message)
            self.info = message["info"]
        while not await self._is_healthy():
            if self._ended.done():
                raise await self._failure({})
            await asyncio.sleep(HEALTH_PAUSE_S)

    async def _failure(self, message: dict[str, Any]) -> EngineFailed:
        """Why it did not start, without our folders: clients may see the reason."""
        failed = failure_of(await self.wait(), message)
        reason = failed.reason
        for path in filter(None, (self.spec.model_path, self.spec.mmproj, self.spec.draft)):
            reason = reason.replace(path, Path(path).name)
        return EngineFailed(reason, kind=failed.kind, log_tail=failed.log_tail)

    async def _is_healthy(self) -> bool:
        async with Pool(keepalive=False) as pool:
            try:
                async with await pool.open(self.address, "GET", "/health") as exchange:
                    return exchange.status == 200
            except NetError:
                return False

    async def _read_log(self) -> None:
        stderr = self._process.stderr
        while stderr and (data := await stderr.read(8192)):
            self._log.feed(data)
        self._log.end()

    async def _end(self, reading: asyncio.Task[None]) -> EngineExit:
        """The one place that reaps: it runs until the process has ended, in whatever way."""
        returncode = await self._process.wait()
        await asyncio.wait([reading], timeout=LOG_END_S)
        reading.cancel()
        if self._process.stdin:
            self._process.stdin.close()
        _remove(self.spec.socket_path)
        return exit_of(returncode, self._log.lines, asked=self._asked)

    async def wait(self) -> EngineExit:
        """How it ended, once it has. Any number may wait, and leave again."""
        return await asyncio.shield(self._ended)

    async def stop(self, grace_s: float = 5.0) -> EngineExit:
        """End it: SIGTERM, after `grace_s` SIGKILL. When this returns it is reaped and its memory is back; again is harmless.

        A caller that is cancelled meanwhile does not save the engine.
        """
        return await asyncio.shield(self._tasks.start("stop", self._stop(grace_s)))

    async def _stop(self, grace_s: float) -> EngineExit:
        self._asked = self._asked or not self._ended.done()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        await asyncio.wait([self._ended], timeout=grace_s)
        if not self._ended.done():
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        return await self.wait()

    def memory_mb(self) -> int | None:
        """Resident memory, mapped weights included, in MiB; None once it has ended. Costs one short read."""
        if self._ended.done():
            return None
        try:
            resident_pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return None
        return round(resident_pages * _PAGE_MB)


def _message(line: bytes) -> dict[str, Any]:
    """What the engine's main wrote; empty when it ended before it could."""
    try:
        message: dict[str, Any] = orjson.loads(line) if line else {}
    except orjson.JSONDecodeError as error:
        raise EngineFailed(f"the engine process answered nonsense: {line[:80]!r}", kind="start") from error
    return message


def _prepare_socket(path: str) -> None:
    """A socket that a dead engine left would keep the new one from binding."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise EngineFailed(
            f"the socket path '{path}' has more than {MAX_SOCKET_PATH_BYTES} bytes: choose a shorter runtime_dir",
            kind="start",
        )
    _remove(path)


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


async def _spawn(spec: EngineSpec) -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            *engine_command(), stdin=PIPE, stdout=PIPE, stderr=PIPE, env=_environment(spec), start_new_session=True
        )
    except OSError as error:
        raise EngineFailed(f"the engine process cannot be started: {error}", kind="start") from error


def _environment(spec: EngineSpec) -> dict[str, str]:
    """A debugger that ggml would start on a crash held the memory on."""
    return {"GGML_NO_BACKTRACE": "1", **without_secrets(), **spec.env}

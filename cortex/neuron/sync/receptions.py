"""Files of models that somebody sends here, piece by piece: each model's coming is a job, like a load that fetches.

What came stays when the sender goes, and is continued by the next one. The model is listed when all of it is verified and
in its place, without a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.models.jobs import JobRecord, Jobs
from cortex.neuron.models.library import Library
from cortex.neuron.models.source.arrival import Arrival, unusable
from cortex.neuron.models.source.download import in_thread
from cortex.tasks import Tasks
from cortex.wire.fleet import JobStage
from cortex.wire.sync import Arrived, ModelFile, Receive, Receiving, content_digest

SILENCE_S = 60.0  # a sender that is silent for so long has gone
FRESH_S = 10.0  # so long after a sender's last word another one only watches
MIB = 1 << 20
log = logging.getLogger(__name__)


class _Reception:
    """One model's coming. `have` counts the bytes of each file by its sha256."""

    def __init__(self, arrival: Arrival, job: JobRecord, sender: str, have: dict[str, int]) -> None:
        self.arrival = arrival
        self.job = job
        self.sender = sender
        self.have = have
        self.files = {file.sha256: file for file in arrival.files}
        self.writing = asyncio.Lock()
        self._before = sum(have.values())
        self._began = self._last = time.monotonic()
        self._heard = asyncio.Event()
        self.show()

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self._last < FRESH_S

    @property
    def is_whole(self) -> bool:
        return all(self.have[sha256] == file.size for sha256, file in self.files.items())

    def show(self) -> None:
        """The ETA assumes the mean speed since it began, and is left out before a tenth of what was missing is here."""
        done, total = sum(self.have.values()), sum(file.size for file in self.arrival.files)
        came, missing = done - self._before, total - self._before
        enough = missing and came * 10 >= missing
        eta = round((time.monotonic() - self._began) * (total - done) / came, 1) if enough else None
        self.job.update(bytes_done=done, bytes_total=total, eta_seconds=eta)

    def hear(self, sender: str | None = None) -> None:
        self.sender = sender or self.sender
        self._last = time.monotonic()
        self._heard.set()

    async def whole(self) -> None:
        """Return when every byte is there. Raises CortexError when nothing more comes."""
        while not self.is_whole:
            self._heard.clear()
            try:
                async with asyncio.timeout(SILENCE_S):
                    await self._heard.wait()
            except TimeoutError:
                raise errors.unavailable(
                    f"nothing came for {SILENCE_S:g} s; what is here is kept", code="sender_gone"
                ) from None


class Receptions:
    """Of one neuron; used from its event loop only.

    piece_bytes  the largest piece that is taken
    """

    def __init__(self, models_dir: Path | None, library: Library, jobs: Jobs, *, max_body_bytes: int) -> None:
        self.piece_bytes = min(4 * MIB, max_body_bytes)
        self._models_dir = models_dir
        self._library = library
        self._jobs = jobs
        self._open: dict[str, _Reception] = {}
        self._opening = asyncio.Lock()
        self._tasks = Tasks("receptions")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Receptions]:
        try:
            yield self
        finally:
            await self._tasks.aclose()

    async def begin(self, model_id: str, asked: Receive) -> Receiving:
        """Take a model's files, or go on taking them. Raises CortexError when they cannot come here."""
        async with self._opening:
            reception = self._open.get(model_id)
            if reception is None:
                reception = await self._new(model_id, asked)
            elif reception.arrival.files != asked.files:
                raise errors.unavailable(
                    f"other files of '{model_id}' are on their way here", code="being_brought", retry_after=10
                )
        joined = reception.sender != asked.sender and reception.is_fresh
        if not joined:
            reception.hear(asked.sender)
        return Receiving(
            job=reception.job.snapshot,
            files=tuple(Arrived(sha256=sha256, have=have) for sha256, have in reception.have.items()),
            joined=joined,
            piece_bytes=self.piece_bytes,
        )

    async def take(self, model_id: str, sha256: str, span: tuple[int, int, int], data: bytes, digest: str) -> Arrived:
        """The next piece of a file: `span` is its first and last byte and the file's size. Raises CortexError: 404 nobody
        announced it, 409 it is not the next one, 400 it is not what its digest says.
        """
        reception = self._open.get(model_id)
        file = reception.files.get(sha256) if reception else None
        if reception is None or file is None:
            raise _not_begun(model_id)
        first, last, size = span
        if size != file.size or last - first + 1 != len(data):
            raise errors.invalid_request(
                f"'{file.name}' has {file.size} bytes, and the piece {len(data)}", code="bad_piece"
            )
        async with reception.writing:
            if self._open.get(model_id) is not reception:  # it ended before this piece's turn came
                raise _not_begun(model_id)
            if first != reception.have[sha256]:
                have = reception.have[sha256]
                raise errors.invalid_request(
                    f"of '{file.name}' {have} bytes are here: the next piece begins there", code="not_next", status=409
                )
            await in_thread(self._write, reception, file, data, digest)
            reception.have[sha256] += len(data)
        reception.show()
        reception.hear()
        return Arrived(sha256=sha256, have=reception.have[sha256])

    # ---- inside

    async def _new(self, model_id: str, asked: Receive) -> _Reception:
        if self._models_dir is None:
            raise errors.forbidden("this neuron has no models_dir where files could go")
        arrival = Arrival(self._models_dir, asked.files)
        async with contextlib.AsyncExitStack() as opening:
            await opening.enter_async_context(_held(arrival))
            have = await in_thread(lambda: {file.sha256: arrival.have(file) for file in arrival.files})
            job = self._jobs.start(model_id)
            job.update(stage=JobStage.fetching)
            reception = self._open[model_id] = _Reception(arrival, job, asked.sender, have)
            self._tasks.start(f"receive {model_id}", self._receive(model_id, reception, opening.pop_all()))
        return reception

    async def _receive(self, model_id: str, reception: _Reception, held: contextlib.AsyncExitStack) -> None:
        """To the end, in whatever way. Whoever hears of it may begin anew: by then the files are free."""
        failure: CortexError | None = errors.shutting_down()
        try:
            failure = await self._outcome(model_id, reception)
        finally:
            try:
                async with self._opening, reception.writing:
                    del self._open[model_id]
                    await held.aclose()
            finally:
                reception.job.finish(failure)

    async def _outcome(self, model_id: str, reception: _Reception) -> CortexError | None:
        try:
            await reception.whole()
            await self._settle(reception)
        except CortexError as error:
            return error
        except OSError as error:
            return unusable(reception.arrival.place(reception.arrival.files[0]), error)
        except Exception:
            log.exception("receiving %s failed", model_id)
            return errors.internal()
        return None

    async def _settle(self, reception: _Reception) -> None:
        total = sum(file.size for file in reception.arrival.files)
        reception.job.update(stage=JobStage.verifying, eta_seconds=None)
        await reception.arrival.settle(lambda done: reception.job.progress(done, total))
        first = reception.arrival.place(reception.arrival.files[0])
        if all(model.path != first for model in await self._library.rescan()):
            raise errors.invalid_request(
                f"'{reception.arrival.files[0].name}' came whole and is no model here", code="not_a_model", status=422
            )

    @staticmethod
    def _write(reception: _Reception, file: ModelFile, data: bytes, digest: str) -> None:
        if content_digest(data) != digest:
            raise errors.invalid_request(
                f"a piece of '{file.name}' is not what its Content-Digest says", code="piece_corrupt"
            )
        partial = reception.arrival.wanted(file).partial
        try:
            with partial.open("r+b" if partial.exists() else "w+b") as out:
                out.truncate(reception.have[file.sha256])
                out.seek(0, 2)
                out.write(data)
        except OSError as error:
            raise unusable(partial.parent, error) from error


@contextlib.asynccontextmanager
async def _held(arrival: Arrival) -> AsyncIterator[None]:
    """The files for the time of a block: got and given back in a thread, also when whoever asked has left."""
    held = contextlib.ExitStack()
    try:
        await in_thread(held.enter_context, arrival.held())
        yield
    finally:
        await in_thread(held.close)


def _not_begun(model_id: str) -> CortexError:
    return errors.invalid_request(f"no such file of '{model_id}' was announced", code="not_begun", status=404)

"""Copies of models' files from a neuron that has them to one that lacks them.

Piece by piece through this gateway, which holds one piece at a time. A cut, on whatever side, costs the piece that was on
its way; pieces that were changed on theirs are sent again. A neuron that gives no more is replaced by another one with the
same files (`sources`), from the byte on that is missing. The neuron that receives has the job, and the last word.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from cortex import errors
from cortex.errors import CortexError
from cortex.gateway.fleet.client import JOB_WAIT_S, NeuronClient, NeuronError, NeuronRefusal
from cortex.gateway.fleet.files import ModelFiles
from cortex.gateway.fleet.poller import Poller
from cortex.gateway.fleet.sources import ATTEMPTS, Givers, Sources
from cortex.tasks import Tasks
from cortex.wire.errors import error_of
from cortex.wire.fleet import Job, JobStage
from cortex.wire.sync import Hashing, ModelFile, Receive

KIB = 1 << 10
LEAST_PIECE = 64 * KIB
PAUSE_S = 0.25  # doubled with each attempt in a row that brought nothing
PACE_S = 0.1
# Refusals that say no more than that the two sides have to agree again on what is where.
_AGREE_AGAIN = frozenset(
    {"not_next", "not_begun", "not_offered", "file_changed", "piece_corrupt", "sender_gone", "not_found"}
)

T = TypeVar("T")
log = logging.getLogger(__name__)


class _NotGivenError(Exception):
    """The neuron that gives the files failed, and not the one that takes them."""

    def __init__(self, reason: NeuronError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Copy:
    """One model's files on their way to `node`, which knows them by the name that its first source has for them.

    rate     bytes a second; None: as fast as it goes. It may be changed at any time
    job      of the neuron that receives, as it was told first; None: not yet
    hashing  how far the source is with reading its files, before that
    """

    def __init__(
        self, sources: Sources, node: str, clients: Mapping[str, NeuronClient], poller: Poller, rate: int | None
    ) -> None:
        self.model_id = sources.model_id
        self.node = node
        self.rate = rate
        self.job: Job | None = None
        self.hashing: Hashing | None = None
        self.moved: list[Callable[[], None]] = []
        self._sources = sources
        self._clients = clients
        self._client = clients[node]
        self._giver = ModelFiles(clients[sources.node])
        self._taker = ModelFiles(self._client)
        self._poller = poller
        self._sender = uuid.uuid4().hex
        self._announced: tuple[str, tuple[ModelFile, ...]] | None = None  # by whom, and what
        self._failures = 0  # of `node`, in a row
        self._sent = 0
        self._due = 0.0
        self._begun = asyncio.Event()

    @property
    def source(self) -> str:
        """Who gives the files now."""
        return self._sources.node

    async def run(self) -> CortexError | None:
        """To the end; what went wrong, or None. What came stays where it is, for the next time."""
        fields = {"model": self.model_id, "from": self.source, "node": self.node}
        log.info("copying a model's files", extra={"fields": fields})
        error = await self._persist()
        if error:
            log.warning("not copied: %s", error.message, extra={"fields": fields})
        await self._poller.refresh(self.node)
        self._begun.set()
        return error

    async def begun(self, within_s: float) -> Job | None:
        """The job as soon as there is one, or as soon as it is sure that there will be none."""
        try:
            async with asyncio.timeout(within_s):
                await self._begun.wait()
        except TimeoutError:
            pass
        return self.job

    async def _persist(self) -> CortexError | None:
        while True:
            before = self._sent
            try:
                return await self._attempt()
            except _NotGivenError as error:
                reason, gives = error.reason, True
            except NeuronError as error:
                reason, gives = error, False
            if self._sent > before:
                self._failures = 0
                self._sources.gave()
            failures = self._blame(reason, gives=gives)
            if failures is None:
                return self._given_up(reason, gives=gives)
            log.info("a copy is taken up again from '%s': %s", self.source, reason)
            if failures:
                await asyncio.sleep(PAUSE_S * 2**failures)

    def _blame(self, reason: NeuronError, *, gives: bool) -> int | None:
        """How often in a row the neuron to ask next has failed; None: there is none to ask any more."""
        if gives:
            source = self.source
            if not self._sources.failed(for_good=_is_final(reason)):
                return None
            return self._sources.failures if self.source == source else 0
        self._failures = ATTEMPTS if _is_final(reason) else self._failures + 1
        return self._failures if self._failures < ATTEMPTS else None

    def _given_up(self, reason: NeuronError, *, gives: bool) -> CortexError:
        asked = [f"'{node}'" for node in self._sources.asked] if gives else [f"'{self.node}'"]
        if len(asked) > 1:
            return self._not_brought(f"neither {' nor '.join(asked)} gives them any more")
        return _told(reason) or self._not_brought(f"{asked[0]} cannot be reached")

    def _not_brought(self, why: str) -> CortexError:
        return errors.upstream_failed(
            f"the files of '{self.model_id}' could not be brought to '{self.node}': {why}. What came is kept",
            code="copy_failed",
        )

    async def _attempt(self) -> CortexError | None:
        files = await self._offer()
        receiving = await self._taker.receive(self.model_id, Receive(files=files, sender=self._sender))
        self.job = receiving.job
        self._begun.set()
        if not receiving.joined:
            have = {arrived.sha256: arrived.have for arrived in receiving.files}
            for file in files:
                await self._send(file, have.get(file.sha256, 0), receiving.piece_bytes)
        return await self._settled(receiving.job.id)

    async def _given(self, asking: Awaitable[T]) -> T:
        try:
            return await asking
        except NeuronError as error:
            raise _NotGivenError(error) from error

    async def _offer(self) -> tuple[ModelFile, ...]:
        """The files as they were announced first: another source may have them elsewhere, but no others."""
        source, listed = self.source, self._sources.model_id
        try:
            self._giver = ModelFiles(self._clients[source])
        except NeuronError as error:
            raise _NotGivenError(error) from error
        while isinstance(offer := await self._given(self._giver.offer(listed)), Hashing):
            self.hashing = offer
            self._tell()
        if self._announced is None or self._announced[0] == source:
            self._announced = source, offer.files
        first, files = self._announced
        if {file.sha256 for file in offer.files} != {file.sha256 for file in files}:
            other = f"'{source}' has other files of '{listed}' than '{first}'"
            refused = errors.invalid_request(other, code="does_not_offer", status=409)
            raise _NotGivenError(NeuronRefusal(source, refused))
        return files

    async def _send(self, file: ModelFile, at: int, most: int) -> None:
        size = LEAST_PIECE
        while at < file.size:
            began = time.monotonic()
            last = min(at + self._allowed(size, most), file.size) - 1
            piece = await self._given(self._giver.piece(self._sources.model_id, file.sha256, at, last))
            arrived = await self._taker.put(self.model_id, file.sha256, piece)
            if arrived.have <= at:
                raise NeuronError(f"neuron '{self.node}' took a piece and says that it did not")
            at, self._sent = arrived.have, self._sent + len(piece.data)
            size = next_size(size, time.monotonic() - began, most)
            self._tell()
            await self._pace(len(piece.data))

    def _allowed(self, size: int, most: int) -> int:
        """No more than a second's worth at a time, so that it flows."""
        return max(1, min(size, most, self.rate or size))

    async def _pace(self, sent: int) -> None:
        if self.rate:
            now = time.monotonic()
            self._due = max(self._due, now) + sent / self.rate
            await asyncio.sleep(self._due - now)

    async def _settled(self, job_id: str) -> CortexError | None:
        """Every byte was sent, by us or somebody else: the neuron verifies them."""
        was: Job | None = None
        while True:
            job = await self._client.job(job_id, wait_s=JOB_WAIT_S)
            if job != was:
                self._tell()
            was = job
            if job.finished:
                return self._outcome(job)
            await asyncio.sleep(PACE_S)

    def _outcome(self, job: Job) -> CortexError | None:
        if job.stage is not JobStage.failed:
            return None
        error = error_of(job.error)
        if error.code in _AGREE_AGAIN:
            raise NeuronRefusal(self.node, error)
        return error

    def _tell(self) -> None:
        for moved in self.moved:
            moved()


class Sync:
    """The copies of one gateway, each once."""

    def __init__(self, clients: Mapping[str, NeuronClient], poller: Poller, tasks: Tasks) -> None:
        self._clients = clients
        self._poller = poller
        self._tasks = tasks
        self._copies: dict[tuple[str, str], tuple[Copy, asyncio.Task[CortexError | None]]] = {}

    def copy(
        self, model_id: str, source: str, node: str, *, givers: Givers, rate: int | None
    ) -> tuple[Copy, asyncio.Task[CortexError | None]]:
        """Begin a copy, or join the one that runs, at `rate` from now on. `model_id` is what the source lists; `givers`: who
        else may give the files when it fails. The copy goes on also when nobody waits for its task any more. Raises
        NeuronError when one of the two is gone.
        """
        key = model_id, node
        if key in self._copies:
            self._copies[key][0].rate = rate
            return self._copies[key]
        copy = Copy(Sources(source, model_id, givers), node, self._clients, self._poller, rate)
        task = self._tasks.start(f"copy {model_id} to {node}", copy.run())
        self._copies[key] = copy, task
        task.add_done_callback(lambda _: self._copies.pop(key, None))
        return copy, task


def next_size(size: int, took_s: float, most: int) -> int:
    """Of the next piece: one should take about a second, also on a slow line."""
    if took_s < 0.5:
        return min(size * 2, most)
    return max(size // 2, LEAST_PIECE) if took_s > 2 else size


def _is_final(reason: NeuronError) -> bool:
    """Whether it says that asking again is no use."""
    return (
        isinstance(reason, NeuronRefusal) and reason.error.code not in _AGREE_AGAIN and reason.error.retry_after is None
    )


def _told(reason: NeuronError) -> CortexError | None:
    """What a neuron said; None when it said nothing, and only the log has more."""
    if isinstance(reason, NeuronRefusal):
        return reason.for_client
    log.warning("%s", reason)
    return None

"""Copies of models' files from a neuron that has them to one that lacks them.

Piece by piece through this gateway, which holds one piece at a time. A cut, on whatever side, costs the piece that was on
its way; pieces that were changed on theirs are sent again. The neuron that receives has the job, and the last word.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping

from cortex import errors
from cortex.errors import CortexError
from cortex.gateway.fleet.client import JOB_WAIT_S, NeuronClient, NeuronError, NeuronRefusal
from cortex.gateway.fleet.files import ModelFiles
from cortex.gateway.fleet.poller import Poller
from cortex.tasks import Tasks
from cortex.wire.errors import error_of
from cortex.wire.fleet import Job, JobStage
from cortex.wire.sync import Hashing, ModelFile, Offer, Receive

KIB = 1 << 10
LEAST_PIECE = 64 * KIB
ATTEMPTS = 6  # in a row that brought nothing
PAUSE_S = 0.25  # doubled with each of them
PACE_S = 0.1
# Refusals that say no more than that the two sides have to agree again on what is where.
_AGREE_AGAIN = frozenset(
    {"not_next", "not_begun", "not_offered", "file_changed", "piece_corrupt", "sender_gone", "not_found"}
)

log = logging.getLogger(__name__)


class Copy:
    """One model's files on their way from `source` to `node`.

    rate     bytes a second; None: as fast as it goes. It may be changed at any time
    job      of the neuron that receives, as it was told first; None: not yet
    hashing  how far the source is with reading its files, before that
    """

    def __init__(
        self, model_id: str, source: NeuronClient, node: NeuronClient, poller: Poller, rate: int | None
    ) -> None:
        self.model_id = model_id
        self.source = source.name
        self.node = node.name
        self.rate = rate
        self.job: Job | None = None
        self.hashing: Hashing | None = None
        self.moved: list[Callable[[], None]] = []
        self._giver = ModelFiles(source)
        self._taker = ModelFiles(node)
        self._client = node
        self._poller = poller
        self._sender = uuid.uuid4().hex
        self._sent = 0
        self._due = 0.0
        self._begun = asyncio.Event()

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
        failures = 0
        while True:
            before = self._sent
            try:
                return await self._attempt()
            except NeuronRefusal as refusal:
                if refusal.error.code not in _AGREE_AGAIN and refusal.error.retry_after is None:
                    return refusal.error
                reason: NeuronError = refusal
            except NeuronError as error:
                reason = error
            failures = 1 if self._sent > before else failures + 1
            if failures >= ATTEMPTS:
                return _gave_up(self, reason)
            log.info("a copy is taken up again: %s", reason)
            await asyncio.sleep(PAUSE_S * 2**failures)

    async def _attempt(self) -> CortexError | None:
        offer = await self._offer()
        receiving = await self._taker.receive(self.model_id, Receive(files=offer.files, sender=self._sender))
        self.job = receiving.job
        self._begun.set()
        if not receiving.joined:
            have = {arrived.sha256: arrived.have for arrived in receiving.files}
            for file in offer.files:
                await self._send(file, have.get(file.sha256, 0), receiving.piece_bytes)
        return await self._settled(receiving.job.id)

    async def _offer(self) -> Offer:
        while isinstance(offer := await self._giver.offer(self.model_id), Hashing):
            self.hashing = offer
            self._tell()
        return offer

    async def _send(self, file: ModelFile, at: int, most: int) -> None:
        size = LEAST_PIECE
        while at < file.size:
            began = time.monotonic()
            last = min(at + self._allowed(size, most), file.size) - 1
            piece = await self._giver.piece(self.model_id, file.sha256, at, last)
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
        self, model_id: str, source: str, node: str, *, rate: int | None
    ) -> tuple[Copy, asyncio.Task[CortexError | None]]:
        """Begin a copy, or join the one that runs, at `rate` from now on. `model_id` is what the source lists. The copy goes on
        also when nobody waits for its task any more. Raises NeuronError when one of the two is gone.
        """
        key = model_id, node
        if key in self._copies:
            self._copies[key][0].rate = rate
            return self._copies[key]
        copy = Copy(model_id, self._clients[source], self._clients[node], self._poller, rate)
        task = self._tasks.start(f"copy {model_id} to {node}", copy.run())
        self._copies[key] = copy, task
        task.add_done_callback(lambda _: self._copies.pop(key, None))
        return copy, task


def next_size(size: int, took_s: float, most: int) -> int:
    """Of the next piece: one should take about a second, also on a slow line."""
    if took_s < 0.5:
        return min(size * 2, most)
    return max(size // 2, LEAST_PIECE) if took_s > 2 else size


def _gave_up(copy: Copy, reason: NeuronError) -> CortexError:
    if isinstance(reason, NeuronRefusal):
        return reason.error
    log.warning("%s", reason)
    return errors.upstream_failed(
        f"the files of '{copy.model_id}' could not be brought from '{copy.source}' to '{copy.node}': one of the two "
        "cannot be reached. What came is kept",
        code="copy_failed",
    )

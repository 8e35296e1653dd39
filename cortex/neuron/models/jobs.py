"""Loads as jobs: each has an id, a stage, and bytes done where they are known; anybody may watch, and watching changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import OrderedDict
from typing import Any

from cortex import errors
from cortex.wire.fleet import Job, JobStage

KEPT = 200  # finished jobs that can still be asked for


class JobRecord:
    """One job. Its owner (a slot) writes it; readers get frozen snapshots. Waiters are told of every change."""

    def __init__(self, model_id: str) -> None:
        self._job = Job(id="job_" + uuid.uuid4().hex[:16], model_id=model_id, started_at=time.time())
        self._changed = asyncio.Event()
        self.failure: errors.CortexError | None = None

    @property
    def snapshot(self) -> Job:
        return self._job

    def update(self, **fields: Any) -> None:
        self._job = self._job.model_copy(update=fields)
        self._changed.set()
        self._changed = asyncio.Event()

    def note(self, text: str) -> None:
        """Something that was decided for the caller and that an operator should be able to read."""
        if text not in self._job.notes:
            self.update(notes=(*self._job.notes, text))

    def progress(self, done: int, total: int | None, since: float | None = None) -> None:
        """Bytes moved, since the job's start or another moment. The ETA assumes the mean speed so far, and is left out before a tenth is there."""
        elapsed = time.time() - (since or self._job.started_at)
        eta = elapsed * (total - done) / done if total and done * 10 >= total else None
        self.update(bytes_done=done, bytes_total=total, eta_seconds=None if eta is None else round(eta, 1))

    def finish(self, error: errors.CortexError | None = None) -> None:
        """The end: `error` is what every waiter will raise, None when the model is loaded."""
        self.failure = error
        described = (
            None
            if error is None
            else {
                "message": error.message,
                "type": error.type,
                "code": error.code,
                "status": error.status,
                **error.extras,  # a gateway plans again with the numbers of a refusal
            }
        )
        self.update(
            stage=JobStage.failed if error else JobStage.done,
            finished_at=time.time(),
            eta_seconds=None,
            error=described,
        )

    async def wait(self, within_s: float) -> Job:
        """The job when it has finished, or as it is after `within_s` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self._job.finished:
                    await self._changed.wait()
        return self._job


class Jobs:
    """Every job of this neuron, the newest last; old finished ones are forgotten."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, JobRecord] = OrderedDict()

    def start(self, model_id: str) -> JobRecord:
        record = JobRecord(model_id)
        self._records[record.snapshot.id] = record
        for job_id in [job_id for job_id, kept in self._records.items() if kept.snapshot.finished][
            : max(0, len(self._records) - KEPT)
        ]:
            del self._records[job_id]
        return record

    def get(self, job_id: str) -> JobRecord:
        if job_id not in self._records:
            raise errors.not_found(f"there is no job '{job_id}' on this neuron")
        return self._records[job_id]

    def all(self) -> list[Job]:
        return [record.snapshot for record in self._records.values()]

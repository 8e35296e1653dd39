"""One model's way into memory: decision after decision until it is servable, or nobody is left to ask.

Every failure teaches the next decision something: which neuron failed, what it said that the model needs, that memory ran
out all the same. So the next candidate is asked, then one where everybody who may leave has left, then with less context.
"""

from __future__ import annotations

import asyncio
import functools

from cortex import errors
from cortex.errors import CortexError
from cortex.gateway.fleet.client import NeuronError
from cortex.gateway.fleet.lessons import Lessons
from cortex.gateway.fleet.loads import Loads, as_error
from cortex.gateway.fleet.patience import Patience
from cortex.gateway.fleet.poller import Poller
from cortex.gateway.fleet.room import Rooms
from cortex.gateway.fleet.router import Router
from cortex.gateway.fleet.signal import Signal
from cortex.gateway.fleet.sync import Sync
from cortex.gateway.routing.decisions import Candidate, Decision, Place, Queue, Reject, Serve, Wait

LOOK_S = 0.5  # how often a model that waits for its turn looks at what other gateways' requests do there
PACE_S = 0.1
CONFLICT = 409  # it is being loaded already, or its place is kept for another one: the next polls say more
SECS_PER_MIB = 20 / 1024  # of a file: a slow disk


class Flight:
    """Brings one model up, for whoever waits for it.

    node, job_id  where it is being loaded just now
    evicted       who left for it
    """

    def __init__(
        self,
        model_id: str,
        router: Router,
        rooms: Rooms,
        loads: Loads,
        poller: Poller,
        changed: Signal,
        sync: Sync,
        *,
        patience_s: float,
        min_context: int | None,
    ) -> None:
        self.model_id = model_id
        self.node: str | None = None
        self.job_id: str | None = None
        self.evicted: list[str] = []
        self._loaded_by_us = False
        self._router = router
        self._rooms = rooms
        self._loads = loads
        self._poller = poller
        self._changed = changed
        self._sync = sync
        self._brought: set[str] = set()
        self._patience = Patience(patience_s)
        self._min_context = min_context
        self._lessons = Lessons()
        self._looked_at: set[str] = set()  # before a refusal that rests on their word was told
        self._followed: set[str] = set()
        self._queued: CortexError | None = None

    @property
    def how(self) -> str:
        """What `x-cortex-decision` says of a request that waited for it."""
        if not self._loaded_by_us:
            return "waited for a load"
        return f"loaded after evicting {','.join(self.evicted)}" if self.evicted else "loaded"

    async def run(self) -> CortexError | None:
        """Returns None when the model is servable, else why it will not be."""
        try:
            async with self._patience.lasting():
                return await self._bring_up()
        except TimeoutError:
            return self._queued or errors.unavailable(
                f"model '{self.model_id}' is not loaded after {self._patience.seconds:g} s; the load goes on",
                retry_after=30,
            )

    async def _bring_up(self) -> CortexError | None:
        while self._router.is_wanted(self.model_id):
            decision = self._decide()
            self._queued = decision.error if isinstance(decision, Queue) else None
            match decision:
                case Serve():
                    return None
                case Reject(error, node):
                    if not self._second_chance() and not await self._looked_again(node):
                        return self._lessons.telling or error
                case Queue():
                    await self._wait_for_turn(decision)
                case Wait(node, job_id):
                    await self._wait_for_load(node, job_id)
                case Place(candidates):
                    await self._place(candidates[0])
        return errors.unavailable(f"nobody waits for model '{self.model_id}' any more", retry_after=1)

    def _decide(self) -> Decision:
        return self._router.decide(self.model_id, **self._lessons.circumstances)

    # ---- waiting

    async def _wait_for_turn(self, queue: Queue) -> None:
        self._router.queued(queue)
        self.node, self.job_id = queue.node, None
        if queue.node:
            await self._loads.ask_to_give_way(queue.node, self._router.in_the_way(queue), self.model_id)
            self._poller.poke(queue.node)
        await self._changed.wait(LOOK_S)

    async def _wait_for_load(self, node: str, job_id: str | None) -> None:
        """Nobody's job is followed twice: what a neuron still reports then is left to its own pace."""
        self.node = node
        if job_id is None or job_id in self._followed:
            await self._poller.next_poll(node)
        elif failure := await self._follow(node, job_id):
            self._lessons.blame(node, failure)

    async def _follow(self, node: str, job_id: str) -> CortexError | None:
        self._followed.add(job_id)
        self.node, self.job_id = node, job_id
        failure = await self._loads.follow(node, job_id, moved=self._patience.moved)
        await self._poller.refresh(node)
        return failure

    # ---- placing

    async def _place(self, best: Candidate) -> None:
        """Ask one neuron, if it still is the best once nobody else changes its memory."""
        node = self.node = best.node
        if best.sync_from:
            await self._bring(best, best.sync_from)
            return
        if not self._router.may_go(self.model_id, node):
            await self._changed.wait(LOOK_S)
            return
        async with self._rooms.changing(node):
            candidate = await self._confirmed(best)
            if candidate is None or not await self._made_room(candidate):
                return
            try:
                job, failure = await self._loads.start(candidate), None
            except CortexError as error:
                job, failure = None, error
            finally:
                await self._poller.refresh(node)
        if failure and failure.status == CONFLICT:
            await self._changed.wait(LOOK_S)
            return
        if job:
            self._patience.moved(SECS_PER_MIB * candidate.size_mb)
            failure = await self._follow(node, job.id)
        self._learn(candidate, failure)

    async def _bring(self, candidate: Candidate, source: str) -> None:
        """A neuron without the file gets it first; the next decision finds it there."""
        node, self.job_id = candidate.node, None
        try:
            copy, task = self._sync.copy(
                self._router.listed_as(self.model_id, source),
                source,
                node,
                givers=functools.partial(self._router.givers, self.model_id),
                rate=self._router.rate,
            )
        except NeuronError as error:
            self._lessons.blame(node, as_error(error))
            return
        copy.moved.append(self._patience.moved)
        try:
            if job := await copy.begun(self._patience.seconds):
                self.job_id = job.id
            await asyncio.wait([task])
        finally:
            copy.moved.remove(self._patience.moved)
        if failure := task.result() or self._not_there(node):
            self._lessons.blame(node, failure)

    def _not_there(self, node: str) -> CortexError | None:
        """What was copied twice and is not listed would be copied for ever."""
        twice = node in self._brought
        self._brought.add(node)
        return errors.upstream_failed(f"'{self.model_id}' was copied to '{node}' and is not there") if twice else None

    async def _confirmed(self, best: Candidate) -> Candidate | None:
        """The candidate by fresh figures; None when there is a better one now, or nobody waits any more."""
        if best.victims:
            await self._poller.refresh(best.node)
        if not self._router.is_wanted(self.model_id):
            return None
        now_best = self._best()
        return now_best if now_best and now_best.node == best.node else None

    async def _made_room(self, candidate: Candidate) -> bool:
        try:
            made = await self._rooms.make(candidate)
        except NeuronError as error:
            self._lessons.blame(candidate.node, as_error(error))
            return False
        if not made:
            await asyncio.sleep(PACE_S)
            return False
        self.evicted += [victim.model_id for victim in candidate.victims]
        return True

    # ---- learning

    def _learn(self, candidate: Candidate, failure: CortexError | None) -> None:
        if failure is None:
            self._loaded_by_us = True
            self._loads.loaded(candidate)
            gone = errors.upstream_failed(f"model '{self.model_id}' was loaded and is gone again")
            self._lessons.blame(candidate.node, gone)
        else:
            self._lessons.failed(candidate, failure)

    def _second_chance(self) -> bool:
        return self._lessons.second_chance(self._min_context, self._best)

    def _best(self) -> Candidate | None:
        decision = self._decide()
        return decision.candidates[0] if isinstance(decision, Place) else None

    async def _looked_again(self, node: str | None) -> bool:
        """A refusal is told by fresh figures only: of a poll, one half may be of before a load and the other of after it."""
        if node is None or node in self._looked_at:
            return False
        self._looked_at.add(node)
        await self._poller.refresh(node)
        return True

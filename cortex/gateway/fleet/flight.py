"""One model's way into memory: decision after decision until it is servable, or nobody is left to ask.

Every failure teaches the next decision something: which neuron failed, what it said that the model needs, that memory ran
out all the same. So the next candidate is asked, then one where everybody who may leave has left, then with less context.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field

from cortex import errors
from cortex.errors import CortexError
from cortex.gateway.fleet.client import NeuronError
from cortex.gateway.fleet.loads import Loads, as_error
from cortex.gateway.fleet.poller import Poller
from cortex.gateway.fleet.room import Rooms
from cortex.gateway.fleet.router import Router
from cortex.gateway.fleet.signal import Signal
from cortex.gateway.fleet.sync import Sync
from cortex.gateway.routing.decisions import Candidate, Decision, Place, Queue, Reject, Serve, Wait

LOOK_S = 0.5  # how often a model that waits for its turn looks at what other gateways' requests do there
PACE_S = 0.1
CONFLICT = 409  # it is being loaded already, or its place is kept for another one: the next polls say more
TRIES = 3  # of one neuron: as many refusals with new numbers are believed
SECS_PER_MIB = 20 / 1024  # of a file: a slow disk


@dataclass(slots=True)
class _Learned:
    """What failures have taught: the fields of `Circumstances`, and what to tell in the end."""

    failed_on: set[str] = field(default_factory=set)
    told: dict[str, int] = field(default_factory=dict)
    emptied: set[str] = field(default_factory=set)
    too_much: dict[str, int] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    ran_out: dict[str, Candidate] = field(default_factory=dict)  # by node: with what memory ran out
    looked_at: set[str] = field(default_factory=set)  # before a refusal that rests on their word was told
    errors: list[CortexError] = field(default_factory=list)


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
        self._patience_s = patience_s
        self._min_context = min_context
        self._learned = _Learned()
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
            async with asyncio.timeout(self._patience_s) as self._limit:
                return await self._bring_up()
        except TimeoutError:
            return self._queued or errors.unavailable(
                f"model '{self.model_id}' is not loaded after {self._patience_s:g} s; the load goes on", retry_after=30
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
                        return self._telling() or error
                case Queue():
                    await self._wait_for_turn(decision)
                case Wait(node, job_id):
                    await self._wait_for_load(node, job_id)
                case Place(candidates):
                    await self._place(candidates[0])
        return errors.unavailable(f"nobody waits for model '{self.model_id}' any more", retry_after=1)

    def _decide(self) -> Decision:
        learned = self._learned
        return self._router.decide(
            self.model_id,
            failed_on=learned.failed_on,
            told=learned.told,
            emptied=learned.emptied,
            too_much=learned.too_much,
        )

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
            self._blame(node, failure)

    async def _follow(self, node: str, job_id: str) -> CortexError | None:
        self._followed.add(job_id)
        self.node, self.job_id = node, job_id
        failure = await self._loads.follow(node, job_id, moved=self._extend)
        await self._poller.refresh(node)
        return failure

    def _extend(self, more_s: float = 0) -> None:
        """Bytes move, or a large file is to be read: the end of patience moves as well."""
        self._limit.reschedule(asyncio.get_running_loop().time() + self._patience_s + more_s)

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
            self._extend(SECS_PER_MIB * candidate.size_mb)
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
            self._blame(node, as_error(error))
            return
        copy.moved.append(self._extend)
        try:
            if job := await copy.begun(self._patience_s):
                self.job_id = job.id
            await asyncio.wait([task])
        finally:
            copy.moved.remove(self._extend)
        if failure := task.result() or self._not_there(node):
            self._blame(node, failure)

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
        decision = self._decide()
        now_best = decision.candidates[0] if isinstance(decision, Place) else None
        return now_best if now_best and now_best.node == best.node else None

    async def _made_room(self, candidate: Candidate) -> bool:
        try:
            made = await self._rooms.make(candidate)
        except NeuronError as error:
            self._blame(candidate.node, as_error(error))
            return False
        if not made:
            await asyncio.sleep(PACE_S)
            return False
        self.evicted += [victim.model_id for victim in candidate.victims]
        return True

    # ---- learning

    def _blame(self, node: str, error: CortexError) -> None:
        self._learned.errors.append(error)
        self._learned.failed_on.add(node)

    def _learn(self, candidate: Candidate, failure: CortexError | None) -> None:
        node, learned = candidate.node, self._learned
        if failure is None:
            self._loaded_by_us = True
            self._loads.loaded(candidate)
            failure = errors.upstream_failed(f"model '{self.model_id}' was loaded and is gone again")
        elif failure.code == "insufficient_vram":
            learned.tries[node] = learned.tries.get(node, 0) + 1
            if isinstance(needed := failure.extras.get("required_mb"), int) and learned.tries[node] < TRIES:
                learned.told[node] = needed
                learned.errors.append(failure)
                return
            learned.ran_out[node] = candidate
        self._blame(node, failure)

    def _second_chance(self) -> bool:
        """Where memory ran out: once more with everybody gone who may go, then with less context."""
        for node, candidate in self._learned.ran_out.items():
            if node not in self._learned.emptied:
                self._learned.emptied.add(node)
                if self._has_plan(node, with_victims=True):
                    return True
            context = candidate.request.context
            if context and self._min_context and context > self._min_context:
                self._learned.too_much[node] = min(context, self._learned.too_much.get(node, context))
                if self._has_plan(node, with_victims=False):
                    return True
        return False

    async def _looked_again(self, node: str | None) -> bool:
        """A refusal is told by fresh figures only: of a poll, one half may be of before a load and the other of after it."""
        if node is None or node in self._learned.looked_at:
            return False
        self._learned.looked_at.add(node)
        await self._poller.refresh(node)
        return True

    def _has_plan(self, node: str, *, with_victims: bool) -> bool:
        """Whether a decision would try the node again, were it not for its failure."""
        self._learned.failed_on.discard(node)
        decision = self._decide()
        best = decision.candidates[0] if isinstance(decision, Place) else None
        if best and best.node == node and (best.victims or not with_victims):
            return True
        self._learned.failed_on.add(node)
        return False

    def _telling(self) -> CortexError | None:
        """Of what several neurons said, what is worth a retry; else the first, which was the best candidate."""
        said = self._learned.errors
        return next((error for error in said if error.retry_after is not None), said[0] if said else None)

"""Decisions over the fleet as it is now, with what only this gateway knows: who waits here, and who is on its way out."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from cortex.gateway.fleet.state import Fleet
from cortex.gateway.live import Live
from cortex.gateway.routing import turns
from cortex.gateway.routing.decisions import Decision, Queue
from cortex.gateway.routing.eviction import Circumstances
from cortex.gateway.routing.feasible import files_of
from cortex.gateway.routing.placement import givers
from cortex.gateway.routing.plan import explain
from cortex.gateway.routing.route import route
from cortex.gateway.routing.turns import Want
from cortex.gateway.routing.types import Replica


@dataclass(slots=True)
class _Waiting:
    want: Want
    requests: int = 0


class Router:
    """One a gateway. Called from the event loop only."""

    def __init__(self, fleet: Fleet, live: Live, clock: Callable[[], float] = time.monotonic) -> None:
        self._fleet = fleet
        self._live = live
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._leaving: Counter[tuple[str, str]] = Counter()
        self._calm_under, self._calm = live.config, self._circumstances()

    def decide(self, model: str, avoid: Collection[str] = (), /, **known: Any) -> Decision:
        """What is to happen to a request for `model`. `known`: further fields of `Circumstances`."""
        return route(model, self._live.catalogue, self._fleet.snapshot, self.circumstances(**known), avoid)

    def explain(self, model: str) -> dict[str, Any]:
        """The same in words and numbers, for `GET /plan`."""
        return explain(model, self._live.catalogue, self._fleet.snapshot, self.circumstances())

    @property
    def rate(self) -> int | None:
        """Of a copy, in bytes a second."""
        return self._live.config.sync.rate

    def listed_as(self, model_id: str, node: str) -> str:
        """What a node calls its file of a model."""
        file = self._files(model_id).get(node)
        return file.model_id if file else model_id

    def givers(self, model_id: str) -> dict[str, str]:
        """The nodes that give others their file of a model now, and what they call it."""
        files = self._files(model_id)
        return {node: files[node].model_id for node in givers(files, self._fleet.snapshot)}

    def _files(self, model_id: str) -> dict[str, Replica]:
        return files_of(model_id, self._live.catalogue.profile(model_id), self._fleet.snapshot)

    def circumstances(self, **learned: Any) -> Circumstances:
        if any(learned.values()) or self._waiting or self._leaving:
            return self._circumstances(**learned)
        if self._calm_under is not self._live.config:  # as it mostly is, and then it is the same for every request
            self._calm_under, self._calm = self._live.config, self._circumstances()
        return self._calm

    def _circumstances(self, **learned: Any) -> Circumstances:
        return Circumstances(
            in_flight=self._fleet.in_flight,
            strategy=self._live.config.eviction.strategy,
            wanted=self._waiting,
            closed=self._closed() if self._waiting or self._leaving else (),
            sync=self._live.config.sync.allow,
            **learned,
        )

    def _closed(self) -> Collection[tuple[str, str]]:
        return turns.closed(self._wants, self._clock(), self._bound_s) | self._leaving.keys()

    @property
    def _wants(self) -> Iterable[Want]:
        return [waiting.want for waiting in self._waiting.values()]

    @property
    def _bound_s(self) -> float:
        return self._live.settings.max_swap_wait_secs

    # ---- who waits

    @contextlib.contextmanager
    def wanting(self, model_id: str) -> Iterator[None]:
        """One request waits for a model, for as long as the block lasts."""
        waiting = self._waiting.setdefault(model_id, _Waiting(Want(model_id, self._clock())))
        waiting.requests += 1
        try:
            yield
        finally:
            waiting.requests -= 1
            if not waiting.requests and self._waiting.get(model_id) is waiting:
                del self._waiting[model_id]
                self._fleet.changed.tell()

    def is_wanted(self, model_id: str) -> bool:
        return model_id in self._waiting

    def queued(self, queue: Queue) -> None:
        """What a waiting model waits for, by its last decision."""
        if waiting := self._waiting.get(queue.model_id):
            waiting.want = replace(waiting.want, node=queue.node, blocking=queue.blocking)

    def in_the_way(self, queue: Queue) -> list[str]:
        """Models that other gateways' requests keep in the place for which ours has waited too long."""
        waiting, node = self._waiting.get(queue.model_id), self._fleet.snapshot.by_name.get(queue.node or "")
        if waiting is None or node is None or not waiting.want.starves(self._clock(), self._bound_s):
            return []
        return [model_id for model_id in queue.blocking if node.others.get(model_id)]

    def may_go(self, model_id: str, node: str) -> bool:
        return turns.may_go(model_id, node, self._wants, self._clock(), self._bound_s)

    # ---- who is on its way out

    @contextlib.contextmanager
    def leaving(self, node: str, model_ids: Collection[str]) -> Iterator[None]:
        """These are being unloaded: they get nothing new from here meanwhile."""
        self._leaving.update((node, model_id) for model_id in model_ids)
        try:
            yield
        finally:
            for model_id in model_ids:
                self._leaving[node, model_id] -= 1
            self._leaving = +self._leaving  # without those that are nobody's any more

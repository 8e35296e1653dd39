"""The fleet: what was last heard of each neuron. The poller writes, everybody else reads frozen views.

A poll costs what it brought: what did not change since the last one is the same object in the views and the snapshot.

The second, separate piece of state is how many requests this gateway has open on each replica: it is counted here by
whoever holds `using(…)`, and refines the neurons' own figures between two polls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from cortex.config.gateway import NeuronRef
from cortex.gateway.fleet.breaker import Circuit
from cortex.gateway.fleet.nodes import node_of
from cortex.gateway.fleet.signal import Signal
from cortex.gateway.routing.snapshot import FleetSnapshot
from cortex.gateway.routing.types import COMING
from cortex.net.address import Address
from cortex.wire.fleet import Discovery, Health, ModelEntry, ModelStatus

T = TypeVar("T")
_MOVING = COMING | {ModelStatus.draining}


@dataclass(frozen=True, slots=True)
class NeuronView:
    """A neuron as it was last heard of.

    misses       polls that failed in a row
    problem      why the last one failed; None: it did not
    last_poll    Unix seconds of the last one that succeeded; None: never
    models       by id, also what is only on disk
    addresses    where the inference of each loaded model goes
    others_load  by model: what its health said was running and queued, less our own part in it
    circuit      whether requests to it fail, whatever its polls say
    """

    name: str
    endpoint: str
    healthy: bool = False
    misses: int = 0
    problem: str | None = None
    last_poll: float | None = None
    discovery: Discovery | None = None
    health: Health | None = None
    models: Mapping[str, ModelEntry] = field(default_factory=dict)
    addresses: Mapping[str, Address] = field(default_factory=dict)
    others_load: Mapping[str, int] = field(default_factory=dict)
    circuit: Circuit = Circuit.closed

    @property
    def cut_off(self) -> bool:
        """It gets no requests."""
        return self.circuit is Circuit.open

    @property
    def ready(self) -> bool:
        """It answers, and takes new requests."""
        return self.healthy and not self.cut_off and not (self.health and self.health.draining)

    @property
    def moving(self) -> bool:
        """Something there is about to change: worth asking again soon."""
        return self.healthy and any(entry.status in _MOVING for entry in self.models.values())


class Fleet:
    """Every neuron that is known. `heard`, `missed`, `add` and `remove` are the poller's; the rest is for reading.

    snapshot   the fleet as routing sees it
    in_flight  this gateway's own requests by (node, model)
    changed    told at every poll, and whenever a request of ours has ended
    unhealthy_after  missed polls in a row
    """

    def __init__(
        self, neurons: Sequence[NeuronRef], *, unhealthy_after: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._views: dict[str, NeuronView] = {}
        self.unhealthy_after = unhealthy_after
        self._clock = clock
        self._in_flight: dict[tuple[str, str], int] = {}
        self.in_flight: Mapping[tuple[str, str], int] = MappingProxyType(self._in_flight)
        self.snapshot = FleetSnapshot()
        self.changed = Signal()
        for ref in neurons:
            self.add(ref)

    def __repr__(self) -> str:
        return f"<Fleet {[view.name if view.healthy else view.name + ' (down)' for view in self.views]}>"

    @property
    def views(self) -> tuple[NeuronView, ...]:
        return tuple(self._views.values())

    def view(self, name: str) -> NeuronView | None:
        return self._views.get(name)

    # ---- written by the poller

    def add(self, ref: NeuronRef) -> NeuronView:
        """A neuron that nothing was heard of yet."""
        return self._write(NeuronView(ref.name, ref.endpoint))

    def remove(self, name: str) -> None:
        """A neuron has left the fleet; requests that are with it end by themselves."""
        if self._views.pop(name, None):
            self.snapshot = self.snapshot.without(name)
            self.changed.tell()

    def heard(
        self,
        name: str,
        *,
        models: Sequence[ModelEntry],
        addresses: Mapping[str, Address],
        health: Health | None,
        discovery: Discovery | None,
    ) -> NeuronView:
        """A poll succeeded. Health and discovery keep what was known where they are None."""
        old = self._views[name]
        return self._write(
            replace(
                old,
                healthy=True,
                misses=0,
                problem=None,
                last_poll=self._clock(),
                discovery=discovery or old.discovery,
                health=health or old.health,
                models=_merged(old.models, {entry.id: entry for entry in models}),
                addresses=_merged(old.addresses, addresses),
                others_load=self._others_load(name, health) if health else old.others_load,
            )
        )

    def missed(self, name: str, why: str) -> NeuronView:
        """A poll failed. Some in a row make the neuron unhealthy; one hiccup must not empty the routing table."""
        old = self._views[name]
        misses = old.misses + 1
        healthy = old.healthy and misses < self.unhealthy_after
        return self._write(replace(old, misses=misses, problem=why, healthy=healthy))

    def set_circuit(self, name: str, circuit: Circuit) -> None:
        """Written by the breakers: whether requests to it fail."""
        if (view := self._views.get(name)) and view.circuit is not circuit:
            self._write(replace(view, circuit=circuit))

    def _others_load(self, name: str, health: Health) -> dict[str, int]:
        ours = self._in_flight
        return {
            model.id: max(0, model.in_flight + model.queue_depth - ours.get((name, model.id), 0))
            for model in health.models
        }

    def _write(self, view: NeuronView) -> NeuronView:
        old = self._views.get(view.name)
        self._views[view.name] = view
        self.snapshot = self.snapshot.with_node(node_of(view, old, self.snapshot.by_name.get(view.name)))
        self.changed.tell()
        return view

    # ---- counted by whoever sends a request

    def enter(self, node: str, model_id: str) -> None:
        """One more request of ours on a replica; whoever says so says `leave` when it is over."""
        key = (node, model_id)
        self._in_flight[key] = self._in_flight.get(key, 0) + 1

    def leave(self, node: str, model_id: str) -> None:
        key = (node, model_id)
        self._in_flight[key] -= 1
        if not self._in_flight[key]:
            del self._in_flight[key]
            self.changed.tell()


def _merged(old: Mapping[str, T], new: Mapping[str, T]) -> Mapping[str, T]:
    """What is new, with the very objects that were there before wherever nothing has changed: others see at once what has."""
    merged = {key: _kept(old.get(key), value) for key, value in new.items()}
    same = len(merged) == len(old) and all(old.get(key) is value for key, value in merged.items())
    return old if same else MappingProxyType(merged)


def _kept(old: T | None, new: T) -> T:
    return old if old is not None and (old is new or old == new) else new

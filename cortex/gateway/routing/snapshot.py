"""All neurons at one moment, with the indexes by which a request finds its model.

A new snapshot shares with the last one whatever did not change, so that a poll costs what it brought, not what the
fleet holds.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from types import MappingProxyType
from typing import Self

from cortex.gateway.routing.types import Node, Replica

Index = Mapping[str, tuple[Replica, ...]]


def family(model_id: str) -> str:
    """What `org/repo`, `org/repo-GGUF` and `org/repo:Q4_K_M` have in common: neurons take one for another."""
    return model_id.partition(":")[0].lower().removesuffix("-gguf")


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """The fleet.

    by_name   every neuron, in the order of names
    freest    the same, those with the most free memory on one device first
    known     every replica, also on disk and on neurons that are down, by the family of its id
    present   the replicas in memory, or on their way there, on ready neurons, by model
    servable  those of them that are loaded, which is what most requests need
    hardware  a number that changes when what could run where at all has changed

    most_room_mb  no node has more memory, were it empty
    """

    by_name: Mapping[str, Node] = field(default_factory=dict)
    freest: tuple[Node, ...] = ()
    known: Index = field(default_factory=dict)
    present: Index = field(default_factory=dict)
    servable: Index = field(default_factory=dict)
    hardware: int = 0
    most_room_mb: int = 0

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> Self:
        snapshot = cls()
        for node in nodes:
            snapshot = snapshot.with_node(node)
        return snapshot

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(self.by_name.values())

    def with_node(self, node: Node) -> Self:
        """The same with one neuron as it is now."""
        old = self.by_name.get(node.name)
        by_name = {**self.by_name, node.name: node}
        if old is None:
            by_name = dict(sorted(by_name.items()))
        return replace(
            self,
            by_name=MappingProxyType(by_name),
            freest=_reordered(self.freest, old, node),
            known=_reindexed(self.known, _changes(old, node, _all), by_family=True),
            present=_reindexed(self.present, _changes(old, node, _present), by_family=False),
            servable=_reindexed(self.servable, _changes(old, node, _servable), by_family=False),
            hardware=self.hardware + (old is None or old.hardware != node.hardware),
            most_room_mb=self._most_room(old, node, by_name),
        )

    def _most_room(self, old: Node | None, node: Node, by_name: Mapping[str, Node]) -> int:
        if old is not None and old.room_mb == self.most_room_mb > node.room_mb:  # it may have been the only one
            return max(each.room_mb for each in by_name.values())
        return max(self.most_room_mb, node.room_mb)

    def without(self, name: str) -> Self:
        """The same without a neuron that has left the fleet."""
        if name not in self.by_name:
            return self
        emptied = self.with_node(Node(name, ready=False))
        return replace(
            emptied,
            by_name=MappingProxyType({each: node for each, node in emptied.by_name.items() if each != name}),
            freest=tuple(node for node in emptied.freest if node.name != name),
        )

    def replicas(self, model_id: str) -> tuple[Replica, ...]:
        """Those of exactly this id that are in memory or on their way there, on neurons that are ready."""
        return self.present.get(model_id, ())


_FREEDOM = attrgetter("freedom")


def _reordered(freest: tuple[Node, ...], old: Node | None, node: Node) -> tuple[Node, ...]:
    order = list(freest)
    if old is not None:
        place = bisect_left(order, old.freedom, key=_FREEDOM)
        if old.freedom == node.freedom:
            order[place] = node
            return tuple(order)
        del order[place]
    insort(order, node, key=_FREEDOM)
    return tuple(order)


def _changes(
    old: Node | None, node: Node, indexed: Callable[[Node], Mapping[str, Replica]]
) -> list[tuple[Replica | None, Replica | None]]:
    """Replicas before and after, where they differ. A replica that did not change is the same object."""
    before = {} if old is None else indexed(old)
    after = indexed(node)
    if before is after:
        return []
    return [
        (was, now)
        for model_id in before.keys() | after.keys()
        if (was := before.get(model_id)) is not (now := after.get(model_id))
    ]


def _all(node: Node) -> Mapping[str, Replica]:
    return node.models


def _present(node: Node) -> Mapping[str, Replica]:
    return {each.model_id: each for each in node.resident} if node.ready else {}


def _servable(node: Node) -> Mapping[str, Replica]:
    return {each.model_id: each for each in node.resident if each.servable} if node.ready else {}


def _reindexed(index: Index, changes: list[tuple[Replica | None, Replica | None]], *, by_family: bool) -> Index:
    if not changes:
        return index
    updated = dict(index)
    for was, now in changes:
        model_id = (now or was).model_id  # type: ignore[union-attr]  # one of them is there
        key = family(model_id) if by_family else model_id
        kept = updated.get(key, ())
        if was is not None:
            kept = tuple(each for each in kept if each is not was)
        updated[key] = kept if now is None else (*kept, now)
        if not updated[key]:
            del updated[key]
    return MappingProxyType(updated)

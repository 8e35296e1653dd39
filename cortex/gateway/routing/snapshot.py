"""All neurons at one moment, with the indexes by which a request finds its model.

A new snapshot shares with the last one whatever did not change, so that a poll costs what it brought, not what the
fleet holds.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
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
    servable  the loaded replicas on ready neurons by model, which is what most requests need
    hardware  a number that changes when what could run where at all has changed

    most_room_mb  no node has more memory, were it empty
    """

    by_name: Mapping[str, Node] = field(default_factory=dict)
    freest: tuple[Node, ...] = ()
    known: Index = field(default_factory=dict)
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
            known=_reindexed(self.known, _changes(old, node, servable=False), by_family=True),
            servable=_reindexed(self.servable, _changes(old, node, servable=True), by_family=False),
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

    def replicas(self, model_id: str) -> list[Replica]:
        """Those of exactly this id, on neurons that are ready."""
        return [
            replica
            for replica in self.known.get(family(model_id), ())
            if replica.model_id == model_id and self.by_name[replica.node].ready
        ]


def freedom(node: Node) -> tuple[int, str]:
    return -node.free_mb, node.name


def _reordered(freest: tuple[Node, ...], old: Node | None, node: Node) -> tuple[Node, ...]:
    order = [each for each in freest if each is not old]
    insort(order, node, key=freedom)
    return tuple(order)


def _changes(old: Node | None, node: Node, *, servable: bool) -> list[tuple[Replica | None, Replica | None]]:
    """Replicas before and after, where they differ. A replica that did not change is the same object."""
    before = _indexed(old, servable=servable)
    after = _indexed(node, servable=servable)
    if before is after:
        return []
    return [
        (was, now)
        for model_id in before.keys() | after.keys()
        if (was := before.get(model_id)) is not (now := after.get(model_id))
    ]


def _indexed(node: Node | None, *, servable: bool) -> Mapping[str, Replica]:
    if node is None:
        return {}
    if not servable:
        return node.models
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

"""The fleet as routing sees it, and what can be decided about a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cortex.errors import CortexError
from cortex.net.address import Address
from cortex.wire.fleet import LoadRequest, ModelStatus

# A model in these states becomes servable by itself: whoever asks for it waits.
COMING = frozenset({ModelStatus.fetching, ModelStatus.loading, ModelStatus.recovering, ModelStatus.reloading})


@dataclass(frozen=True, slots=True)
class Replica:
    """A model on a neuron.

    address      where its inference goes; None while the neuron has not told
    others_load  requests running or queued there that are not this gateway's own, at the last poll
    """

    node: str
    model_id: str
    status: str
    address: Address | None = None
    others_load: int = 0
    job_id: str | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU; None is "not told"."""

    index: int
    total_mb: int | None = None
    free_mb: int | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A neuron.

    ready      it answers polls and takes new requests
    devices    None while its discovery is unknown, empty for a host without a GPU
    harnesses  None while its discovery is unknown
    models     by id, everything that it has in memory, on its way, or on disk
    """

    name: str
    ready: bool
    devices: tuple[Device, ...] | None = None
    harnesses: tuple[str, ...] | None = None
    memory_free_mb: int | None = None
    models: Mapping[str, Replica] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """All neurons at one moment. `servable`: the loaded replicas on ready neurons by model, which is what most requests need."""

    nodes: tuple[Node, ...] = ()
    servable: Mapping[str, tuple[Replica, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> FleetSnapshot:
        nodes = tuple(sorted(nodes, key=lambda node: node.name))
        servable: dict[str, tuple[Replica, ...]] = {}
        for replica in (replica for node in nodes if node.ready for replica in node.models.values()):
            if replica.status == ModelStatus.loaded and replica.address is not None:
                servable[replica.model_id] = (*servable.get(replica.model_id, ()), replica)
        return cls(nodes, MappingProxyType(servable))


# ---- decisions


@dataclass(frozen=True, slots=True)
class Candidate:
    """A neuron that may load a model, and what to ask it for."""

    node: str
    request: LoadRequest


@dataclass(frozen=True, slots=True)
class Serve:
    """The model is loaded there: send the request."""

    node: str
    address: Address
    model_id: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The model is on its way there, by this job if it has one."""

    node: str
    job_id: str | None
    model_id: str


@dataclass(frozen=True, slots=True)
class Place:
    """The model is loaded nowhere: load it on the first of these that takes it."""

    candidates: tuple[Candidate, ...]
    model_id: str


@dataclass(frozen=True, slots=True)
class Reject:
    """It cannot be served, now or ever: the error says which."""

    error: CortexError


Decision = Serve | Wait | Place | Reject

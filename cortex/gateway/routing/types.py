"""The fleet as routing sees it: hosts, their memory, and what every model on them is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cortex.net.address import Address
from cortex.wire.fleet import ModelStatus

# A model in these states becomes servable by itself: whoever asks for it waits.
COMING = frozenset({ModelStatus.fetching, ModelStatus.loading, ModelStatus.recovering, ModelStatus.reloading})
_IN_MEMORY = COMING | {ModelStatus.loaded, ModelStatus.draining}
BOUNDLESS = 1 << 40  # MiB: more than anybody has, where nobody has told how much it is
UNKNOWN = -1  # an order must be total: what is not told comes last

InFlight = Mapping[tuple[str, str], int]  # this gateway's own requests by (node, model id)


@dataclass(frozen=True, slots=True)
class Replica:
    """A model on a neuron: in memory, on its way, or on disk. Memory in MiB; None is "not told".

    address      where its inference goes
    devices      GPUs that it is on; none: host memory
    held_mb      what it holds, or will hold when it is loaded
    measured_mb  what it held when it ran there last
    estimate_mb  what its file says that it would hold with `estimate_context` tokens, each of which costs
                 `kv_bytes_per_token`
    ttl          idle seconds before it is to leave
    context      tokens that a request may have there
    processor_only  it takes host memory, whatever GPUs the host has
    yields       it takes nothing new: some gateway's requests have waited too long for its place
    """

    node: str
    model_id: str
    status: str
    address: Address | None = None
    job_id: str | None = None
    devices: tuple[int, ...] = ()
    held_mb: int | None = None
    measured_mb: int | None = None
    estimate_mb: int | None = None
    estimate_context: int | None = None
    kv_bytes_per_token: float | None = None
    quant: str | None = None
    size_mb: int | None = None
    ttl: float | None = None
    context: int | None = None
    capabilities: tuple[str, ...] = ()
    processor_only: bool = False
    yields: bool = False

    @property
    def servable(self) -> bool:
        return self.status == ModelStatus.loaded and self.address is not None


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU; None is "not told"."""

    index: int
    total_mb: int | None = None
    free_mb: int | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A neuron. None is "not told".

    ready        it answers polls and takes new requests
    draining     it answers polls, and takes nothing new
    suspect      a request to it has just failed, and it is not known yet why: others serve first
    devices      None while its discovery is unknown, empty for a host without a GPU
    models       by id, everything that it has in memory, on its way, or on disk
    others       requests by model that run or queue there and are not this gateway's own
    last_used    by model, Unix seconds of the neuron's clock
    clock_ahead  seconds by which that clock is ahead of ours
    offers       it gives its models' files to whoever may have them
    accepts      it takes files of models that it does not have

    Derived from these: `resident`, what takes memory or soon will; `free_mb`, the most that a model on one device could
    take; `freedom`, by which nodes are sorted, the freest first; `room_mb`, no less than what there would be if everybody
    left; `failing`, whether a model failed there.
    """

    name: str
    ready: bool
    devices: tuple[Device, ...] | None = None
    harnesses: tuple[str, ...] | None = None
    memory_free_mb: int | None = None
    disk_free_mb: int | None = None
    models: Mapping[str, Replica] = field(default_factory=dict)
    others: Mapping[str, int] = field(default_factory=dict)
    last_used: Mapping[str, float] = field(default_factory=dict)
    clock_ahead: float = 0.0
    draining: bool = False
    suspect: bool = False
    offers: bool = False
    accepts: bool = False
    resident: tuple[Replica, ...] = field(init=False, compare=False, repr=False)
    free_mb: int = field(init=False, compare=False, repr=False)
    freedom: tuple[int, str] = field(init=False, compare=False, repr=False)
    room_mb: int = field(init=False, compare=False, repr=False)
    failing: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        resident = tuple(each for each in self.models.values() if each.status in _IN_MEMORY)
        free = [device.free_mb for device in self.devices] if self.devices else [self.memory_free_mb]
        known = [mb for mb in free if mb is not None]
        failing = any(each.status == ModelStatus.failed for each in self.models.values())
        object.__setattr__(self, "failing", failing)
        object.__setattr__(self, "resident", resident)
        free_mb = max(known, default=UNKNOWN)
        object.__setattr__(self, "free_mb", free_mb)
        object.__setattr__(self, "freedom", (-free_mb, self.name))
        held = [each.held_mb for each in resident]
        told = len(known) == len(free) and None not in held
        object.__setattr__(self, "room_mb", sum(known) + sum(mb or 0 for mb in held) if told else BOUNDLESS)

    @property
    def is_unheard(self) -> bool:
        """It has never answered: what it could host is unknown."""
        return not self.ready and self.devices is None and not self.models

    @property
    def hardware(self) -> tuple[object, ...]:
        """What decides where a model could run at all: it changes seldom."""
        return (
            self.ready,
            self.draining,
            self.harnesses,
            self.offers,
            self.accepts,
            self.devices and tuple(device.total_mb for device in self.devices),
        )

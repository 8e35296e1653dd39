"""Where a model that is loaded nowhere may go, best first (DESIGN section 6.4).

Of the neurons that could host it: those where it fits free memory now; if there are none, those where it fits after
evicting what it may displace; if there are none, the same with less context, as far as the profile allows. Within each:
the file is there, the cheapest eviction, the most free memory, the name.

A neuron judges a load itself and with fresher numbers; what is decided here is the order in which neurons are asked.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from cortex.config.catalogue import Catalogue, Profile
from cortex.gateway.routing.decisions import Candidate
from cortex.gateway.routing.eviction import Circumstances, tenants
from cortex.gateway.routing.feasible import fetchable, file_names, obstacle
from cortex.gateway.routing.fit import Fit, Tenant, cost, fit, gpus_wanted, memory_of, shares
from cortex.gateway.routing.need import Attempt, attempts, need
from cortex.gateway.routing.snapshot import FleetSnapshot
from cortex.gateway.routing.types import UNKNOWN, Node, Replica
from cortex.wire.fleet import LoadRequest, ModelStatus

ENOUGH = 8  # candidates: who is left after so many failures is found by deciding again
LOOKED_AT = 32  # nodes that are weighed against one another, with the file and without; more only in vast fleets


@dataclass(frozen=True, slots=True)
class Search:
    """A model looking for a place. `patient`: it would wait until those who are busy may leave."""

    model_id: str
    catalogue: Catalogue
    fleet: FleetSnapshot
    now: Circumstances
    avoid: Collection[str] = ()
    patient: bool = False
    profile: Profile | None = field(init=False)
    names: tuple[str, ...] = field(init=False)
    files: tuple[Replica, ...] = field(init=False)

    def __post_init__(self) -> None:
        profile = self.catalogue.profile(self.model_id)
        names = file_names(self.model_id, profile, self.fleet)
        files = (file for node in self.fleet.freest if (file := _file(node, names)))
        object.__setattr__(self, "profile", profile)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "files", tuple(islice(files, ENOUGH)))

    def file_on(self, node: Node) -> Replica | None:
        return _file(node, self.names)


def candidates(search: Search) -> tuple[Candidate, ...]:
    """The ready neurons that may load the model, best first; no more than `ENOUGH`."""
    for attempt in attempts(search.profile):
        if found := list(_found(search, attempt)):
            return tuple(sorted(found, key=lambda each: _rank(search, each))[:ENOUGH])
    return ()


def best_on(search: Search, node: Node) -> Candidate | None:
    """The best way to load the model on this very node, whether it may be asked or not."""
    ways = (_candidate(search, node, attempt) for attempt in attempts(search.profile))
    return next((way for way in ways if way), None)


def size_mb(search: Search) -> int:
    """Of the model's file, MiB; 0 when nobody has told."""
    return max((file.size_mb or 0 for file in search.files), default=0)


def _found(search: Search, attempt: Attempt) -> Iterator[Candidate]:
    order: Iterable[Node] = search.fleet.freest
    if attempt.evicting:
        order = sorted(order, key=lambda node: (-node.room_mb, node.name))
    for with_file in (True, False):
        hosts = islice(_hosts(search, order, with_file=with_file), LOOKED_AT)
        able = (_candidate(search, node, attempt) for node in hosts)
        yield from islice((each for each in able if each), LOOKED_AT if attempt.evicting else ENOUGH)


def _rank(search: Search, candidate: Candidate) -> tuple[object, ...]:
    entry = search.fleet.by_name[candidate.node].models.get(search.model_id)
    failed = entry is not None and entry.status == ModelStatus.failed
    free = UNKNOWN if candidate.free_mb is None else candidate.free_mb
    eviction = cost(candidate.victims, search.now.strategy)
    return failed, not candidate.has_file, eviction, -free, candidate.node


def _hosts(search: Search, order: Iterable[Node], *, with_file: bool) -> Iterator[Node]:
    """Feasible ready neurons, those on whose disk the model is or those that would have to fetch it."""
    if not with_file and (search.profile is None or not fetchable(search.profile)):
        return
    size = size_mb(search)
    for node in order:
        if not node.ready or (search.file_on(node) is not None) is not with_file:
            continue
        if node.name in search.avoid or node.name in search.now.failed_on:
            continue
        if search.profile is not None and obstacle(node, search.profile) is not None:
            continue
        if with_file or node.disk_free_mb is None or node.disk_free_mb > size:
            yield node


def _file(node: Node, names: tuple[str, ...]) -> Replica | None:
    models = node.models
    return next((models[name] for name in names if name in models), None)


# ---- one node


def _candidate(search: Search, node: Node, attempt: Attempt) -> Candidate | None:
    emptied = node.name in search.now.emptied
    if emptied and not attempt.evicting:
        return None
    if node.name in search.now.too_much and (attempt.context or math.inf) >= search.now.too_much[node.name]:
        return None
    file, told = search.file_on(node), search.now.told.get(node.name)
    wanted = need(search.profile, file, search.files, attempt.counted, told)
    leaving = _tenants(search, node) if attempt.evicting else []
    found = fit(
        memory_of(node, search.profile),
        shares(search.profile) if node.devices else (1.0,),
        wanted.mb,
        leaving,
        strategy=search.now.strategy,
        everybody=emptied,
    )
    if found is None:
        return None
    return Candidate(
        node=node.name,
        request=_request(search, found, attempt),
        victims=found.victims,
        has_file=file is not None,
        need_mb=wanted.mb,
        need_from=wanted.source,
        free_mb=found.free_mb,
        size_mb=size_mb(search),
    )


def _tenants(search: Search, node: Node) -> list[Tenant]:
    return tenants(node, search.model_id, search.catalogue, search.now, patient=search.patient)


def _request(search: Search, found: Fit, attempt: Attempt) -> LoadRequest:
    profile = search.profile
    if profile is None:
        return LoadRequest(model_id=search.model_id, wait=False)
    count = gpus_wanted(profile)
    request = profile.load_request(devices=(found.devices or tuple(range(count))) if count else None)
    return request.model_copy(update={"context": attempt.context}) if attempt.context else request

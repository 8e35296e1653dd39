"""Where a model that is loaded nowhere may go, best first (DESIGN section 6.4).

Of the neurons that could host it: those where it fits free memory now; if there are none, those where it fits after
evicting what it may displace; if there are none, the same with less context, as far as the profile allows. Within each:
the file is there, the cheapest eviction, the most free memory, the name.

Where files may be copied between neurons (`sync`), a neuron without the file gets it from another one: instead of fetching
it, and where the model can be loaded nowhere else.

A neuron judges a load itself and with fresher numbers; what is decided here is the order in which neurons are asked.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, islice, takewhile
from operator import attrgetter

from cortex.config.catalogue import Catalogue, Profile
from cortex.gateway.routing.decisions import Candidate
from cortex.gateway.routing.eviction import Circumstances, tenants
from cortex.gateway.routing.feasible import fetchable, files_of, obstacle
from cortex.gateway.routing.fit import Fit, Tenant, cost, fit, gpus_wanted, memory_of, shares
from cortex.gateway.routing.need import Attempt, Need, attempts, need
from cortex.gateway.routing.snapshot import FleetSnapshot
from cortex.gateway.routing.types import UNKNOWN, Node, Replica
from cortex.wire.fleet import LoadRequest, ModelStatus

ENOUGH = 8  # candidates: who is left after so many failures is found by deciding again
_FREEDOM = attrgetter("freedom")
LOOKED_AT = 12  # nodes that are weighed against one another, with the file and without; more only in vast fleets


@dataclass(frozen=True, slots=True)
class Search:
    """A model looking for a place. `patient`: it would wait until those who are busy may leave.

    giver   a neuron whose file may be copied to others; None: nobody's
    copied  also neurons are looked at that can have the file only from there
    """

    model_id: str
    catalogue: Catalogue
    fleet: FleetSnapshot
    now: Circumstances
    avoid: Collection[str] = ()
    patient: bool = False
    copied: bool = False
    giver: str | None = field(init=False)
    profile: Profile | None = field(init=False)
    files: Mapping[str, Replica] = field(init=False)
    some_files: tuple[Replica, ...] = field(init=False)
    size_mb: int = field(init=False)
    _needs: dict[int | None, Need] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        profile = self.catalogue.profile(self.model_id)
        files = files_of(self.model_id, profile, self.fleet)
        object.__setattr__(self, "profile", profile)
        object.__setattr__(self, "files", files)
        some = tuple(islice(files.values(), ENOUGH))
        object.__setattr__(self, "some_files", some)
        object.__setattr__(self, "size_mb", max((file.size_mb or 0 for file in some), default=0))
        object.__setattr__(self, "giver", giver(files, self.fleet) if self.now.sync else None)

    def need_on(self, node: Node | None, counted: int | None = None) -> Need:
        """What the model takes on a node; on any node that has no file of it."""
        file = self.files.get(node.name) if node else None
        told = self.now.told.get(node.name) if node else None
        if file or told:
            return need(self.profile, file, self.some_files, counted, told)
        if counted not in self._needs:  # the same for all the others
            self._needs[counted] = need(self.profile, None, self.some_files, counted)
        return self._needs[counted]


def candidates(search: Search) -> tuple[Candidate, ...]:
    """The ready neurons that may load the model, best first; no more than `ENOUGH`."""
    if not search.files and not _may_be_fetched(search):
        return ()
    found = _ranked(search)
    return found if found or search.giver is None else _ranked(replace(search, copied=True))


def giver(files: Iterable[str], fleet: FleetSnapshot) -> str | None:
    """Of the nodes with a file, one that gives it to others."""
    return next(givers(files, fleet), None)


def givers(files: Iterable[str], fleet: FleetSnapshot) -> Iterator[str]:
    """The nodes that give their file to others now."""
    return (name for name in files if (node := fleet.by_name[name]).offers and (node.ready or node.draining))


def _ranked(search: Search) -> tuple[Candidate, ...]:
    for attempt in _worthwhile(search):
        if found := _found(search, attempt):
            return tuple(sorted(found, key=lambda each: _rank(search, each))[:ENOUGH])
    return ()


def _worthwhile(search: Search) -> Iterator[Attempt]:
    """The attempts without those that would look for as much memory as an earlier one."""
    tried = set()
    for attempt in attempts(search.profile):
        same = (attempt.evicting, attempt.context, search.need_on(None, attempt.counted).mb)
        if search.files or same not in tried:
            tried.add(same)
            yield attempt


def best_on(search: Search, node: Node) -> Candidate | None:
    """The best way to load the model on this very node, whether it may be asked or not."""
    ways = (_candidate(search, node, attempt) for attempt in attempts(search.profile))
    return next((way for way in ways if way), None)


def _found(search: Search, attempt: Attempt) -> list[Candidate]:
    found: list[Candidate] = []
    for hosts in (_with_file(search), _without_file(search, attempt)):
        if len(found) < ENOUGH:  # a file that is there beats one that is not
            able = (_candidate(search, node, attempt) for node in islice(hosts, LOOKED_AT))
            found += islice((each for each in able if each), LOOKED_AT if attempt.evicting else ENOUGH)
    return found


def _rank(search: Search, candidate: Candidate) -> tuple[object, ...]:
    entry = search.fleet.by_name[candidate.node].models.get(search.model_id)
    failed = entry is not None and entry.status == ModelStatus.failed
    free = UNKNOWN if candidate.free_mb is None else candidate.free_mb
    eviction = cost(candidate.victims, search.now.strategy)
    return failed, not candidate.has_file, eviction, -free, candidate.node


def _with_file(search: Search) -> Iterator[Node]:
    """The freest nodes on whose disk the model is."""
    files, fleet = search.files, search.fleet
    if len(files) * 4 < len(fleet.freest):
        nodes: Iterable[Node] = sorted((fleet.by_name[name] for name in files), key=_FREEDOM)
    else:
        nodes = (node for node in fleet.freest if node.name in files)
    return (node for node in nodes if _is_open(search, node))


def _without_file(search: Search, attempt: Attempt) -> Iterator[Node]:
    """The freest nodes that would have to fetch it; a cheap look first, because it is at everybody."""
    if not (search.copied or _may_be_fetched(search)):
        return
    size = search.size_mb
    for node in _large_enough(search, attempt):
        has_disk = node.disk_free_mb is None or node.disk_free_mb > size
        if has_disk and node.name not in search.files and _is_open(search, node) and can_have_file(search, node):
            yield node


def _large_enough(search: Search, attempt: Attempt) -> Iterable[Node]:
    """The nodes that may have room for a model without a file there, the freest first; none is left out that has."""
    freest, profile = search.fleet.freest, search.profile
    least = search.need_on(None, attempt.counted).mb
    if least is None or search.now.told or (profile and profile.gpu_layers == 0) or _takes_host_memory(search):
        return freest
    if attempt.evicting or gpus_wanted(profile) > 1:
        return (node for node in freest if node.room_mb >= least) if search.fleet.most_room_mb >= least else ()
    with_room = takewhile(lambda node: node.free_mb >= least, freest)
    return chain(with_room, takewhile(lambda node: node.free_mb == UNKNOWN, reversed(freest)))


def _takes_host_memory(search: Search, node: Node | None = None) -> bool:
    """A file whose harness computes on the processor, by the node's own word, else by that of one who has it."""
    known = (search.files.get(node.name) if node else None) or next(iter(search.files.values()), None)
    return known is not None and known.processor_only


def _may_be_fetched(search: Search) -> bool:
    """Only the catalogue may make a neuron fetch something."""
    return search.profile is not None and fetchable(search.profile)


def can_have_file(search: Search, node: Node) -> bool:
    """Whether a node without the file can get it."""
    return _may_be_fetched(search) or (search.giver is not None and node.accepts and node.harnesses != ())


def _is_open(search: Search, node: Node) -> bool:
    if not node.ready or node.name in search.avoid or node.name in search.now.failed_on:
        return False
    return search.profile is None or obstacle(node, search.profile) is None


# ---- one node


def _candidate(search: Search, node: Node, attempt: Attempt) -> Candidate | None:
    emptied = node.name in search.now.emptied
    if emptied and not attempt.evicting:
        return None
    if node.name in search.now.too_much and (attempt.context or math.inf) >= search.now.too_much[node.name]:
        return None
    processor_only = _takes_host_memory(search, node)
    wanted = search.need_on(node, attempt.counted)
    leaving = _tenants(search, node) if attempt.evicting else []
    found = fit(
        memory_of(node, search.profile, processor_only=processor_only),
        shares(search.profile) if node.devices and not processor_only else (1.0,),
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
        has_file=node.name in search.files,
        sync_from=search.giver if node.accepts and node.name not in search.files else None,
        need_mb=wanted.mb,
        need_from=wanted.source,
        free_mb=found.free_mb,
        size_mb=search.size_mb,
    )


def _tenants(search: Search, node: Node) -> list[Tenant]:
    return tenants(node, search.model_id, search.catalogue, search.now, patient=search.patient)


def _request(search: Search, found: Fit, attempt: Attempt) -> LoadRequest:
    profile = search.profile
    if profile is None:
        return _plain_request(search.model_id)
    count = gpus_wanted(profile)
    request = profile.load_request(devices=(found.devices or tuple(range(count))) if count else None)
    changes: dict[str, float] = {"context": attempt.context} if attempt.context else {}
    if request.ttl and search.model_id in search.catalogue.resident.models:  # the neuron would act on it
        changes["ttl"] = 0
    return request.model_copy(update=changes) if changes else request


@lru_cache(maxsize=4096)
def _plain_request(model_id: str) -> LoadRequest:
    return LoadRequest(model_id=model_id, wait=False)

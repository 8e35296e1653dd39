"""The entries of `/v1/models`, each made anew only when something about its model has changed.

A fleet of a thousand hosts has a hundred thousand places of models, and a client that asks wants its answer now: what is
long (where a model is, where it could be) is kept as JSON.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from cortex.config.catalogue import ANY, Catalogue, Profile
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.live import Live
from cortex.gateway.routing.feasible import fetchable, files_of, obstacle
from cortex.gateway.routing.fit import gpus_wanted
from cortex.gateway.routing.modality import capabilities
from cortex.gateway.routing.placement import giver
from cortex.gateway.routing.snapshot import FleetSnapshot, Index, family
from cortex.gateway.routing.types import Replica
from cortex.wire.fleet import ModelStatus

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Able:
    """Where a profile could run: the nodes that are up, and whether there are any at all."""

    up: frozenset[str]
    anywhere: bool


@dataclass(frozen=True, slots=True)
class _Kept:
    """The entries of one family of ids, and what they were made from: its replicas, those that are up, and its profiles' nodes."""

    hardware: int
    replicas: tuple[Replica, ...]
    up: tuple[Replica, ...]
    able: tuple[_Able, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """What a listing is made from; equal when it is the very same."""

    known: Index
    hardware: int
    catalogue: Catalogue

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Version)
            and self.known is other.known
            and self.hardware == other.hardware
            and self.catalogue is other.catalogue
        )

    __hash__ = None  # type: ignore[assignment]  # compared with the last one, and kept in no table


class Listing:
    """The listing of one gateway. Entries are shared: who wants others makes new ones."""

    def __init__(self, fleet: Fleet, live: Live) -> None:
        self._fleet = fleet
        self._live = live
        self._created = int(time.time())  # nobody knows when a model was made, and clients want a number
        self._kept: dict[str, _Kept] = {}
        self._able: dict[tuple[object, ...], _Able] = {}
        self._hardware = -1
        self._catalogue: Catalogue | None = None

    @property
    def version(self) -> Version:
        """Another one when an entry may have changed. Polls that bring nothing new leave the index of replicas what it was."""
        snapshot = self._fleet.snapshot
        return Version(snapshot.known, snapshot.hardware, self._live.catalogue)

    def entries(self) -> list[Entry]:
        """Every model by id, then every alias as a mirror of its target."""
        snapshot, catalogue = self._fleet.snapshot, self._live.catalogue
        if self._catalogue is not catalogue:
            self._catalogue, self._kept = catalogue, {}
        if self._hardware != snapshot.hardware:
            self._hardware, self._able = snapshot.hardware, {}
        profiles: dict[str, list[Profile]] = {}
        for profile in catalogue.models:
            profiles.setdefault(family(profile.id), []).append(profile)
        families = snapshot.known.keys() | profiles.keys()
        self._kept = {each: self._renewed(each, profiles.get(each, ()), snapshot, catalogue) for each in families}
        entries = {entry["id"]: entry for kept in self._kept.values() for entry in kept.entries}
        return [*(entries[model_id] for model_id in sorted(entries)), *_mirrors(entries, catalogue)]

    def _renewed(self, name: str, profiles: Iterable[Profile], snapshot: FleetSnapshot, catalogue: Catalogue) -> _Kept:
        replicas, kept, hardware = snapshot.known.get(name, ()), self._kept.get(name), snapshot.hardware
        if kept and kept.replicas is replicas and kept.hardware == hardware:
            return kept
        up = tuple(each for each in replicas if _is_up(snapshot, each.node))
        able = tuple(self._where(profile, snapshot) for profile in profiles)
        if kept and kept.up == up and kept.able == able:
            return _Kept(hardware, replicas, up, able, kept.entries)
        ids = {each.model_id for each in up} | {profile.id for profile in profiles}
        made = (self._entry(model_id, up, snapshot, catalogue) for model_id in ids)
        return _Kept(hardware, replicas, up, able, tuple(entry for entry in made if entry))

    def _entry(
        self, model_id: str, up: Iterable[Replica], snapshot: FleetSnapshot, catalogue: Catalogue
    ) -> Entry | None:
        profile = catalogue.profile(model_id)
        places = sorted((each for each in up if each.model_id == model_id), key=lambda replica: replica.node)
        able = self._where(profile, snapshot) if profile else _Able(frozenset(), anywhere=False)
        if not places and not able.anywhere:
            return None
        feasible_on = sorted(able.up | {place.node for place in places})
        return _told(model_id, profile, places, feasible_on, catalogue, self._created)

    def _where(self, profile: Profile, snapshot: FleetSnapshot) -> _Able:
        """Profiles that ask for the same of a node share the answer."""
        if not fetchable(profile):
            return _able(profile, snapshot, self._with_files(profile, snapshot))
        key = (profile.pinned_on, profile.harness, gpus_wanted(profile), profile.min_device_vram_mb)
        if key not in self._able:
            self._able[key] = _able(profile, snapshot, snapshot.by_name)
        return self._able[key]

    def _with_files(self, profile: Profile, snapshot: FleetSnapshot) -> set[str]:
        """The nodes that have its file, those to which it may be copied, and those that have never said what they have."""
        files = files_of(profile.id, profile, snapshot)
        copied = self._live.config.sync.allow and giver(files, snapshot) is not None
        others = (node.name for node in snapshot.nodes if node.is_unheard or (copied and node.accepts))
        return {*files, *others}


def _able(profile: Profile, snapshot: FleetSnapshot, names: Iterable[str]) -> _Able:
    nodes = [node for name in names if obstacle(node := snapshot.by_name[name], profile) is None]
    return _Able(frozenset(node.name for node in nodes if node.ready), anywhere=bool(nodes))


def _is_up(snapshot: FleetSnapshot, name: str) -> bool:
    node = snapshot.by_name[name]
    return node.ready or node.draining


def _mirrors(entries: Mapping[str, Entry], catalogue: Catalogue) -> list[Entry]:
    return [
        entries[alias.model[0]] | {"id": name, "display_name": alias.display_name or name}
        for name, alias in sorted(catalogue.aliases.items())
        if alias.model[0] in entries and name != ANY
    ]


def _told(
    model_id: str,
    profile: Profile | None,
    places: list[Replica],
    feasible_on: list[str],
    catalogue: Catalogue,
    created: int,
) -> Entry:
    context = _context(profile, places)
    known = {
        "id": model_id,
        "object": "model",
        "type": "model",
        "created": created,
        "created_at": datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "owned_by": "cortex",
        "loaded": any(place.status == ModelStatus.loaded for place in places),
        "feasible_on": _as_json(feasible_on),
        "locations": _as_json([_location(place) for place in places]),
        "capabilities": sorted(capabilities(profile, places)),
        "context_length": context,
        "max_model_len": context,
        "max_input_tokens": context,
        "cost": profile.cost.model_dump(exclude_none=True) if profile and profile.cost else None,
        "aliases": list(catalogue.aliases_of(model_id)),
        "display_name": (profile and profile.display_name) or model_id,
    }
    return {key: value for key, value in known.items() if value is not None}


def _as_json(value: object) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(value))


def _location(place: Replica) -> dict[str, Any]:
    estimate = place.held_mb if place.held_mb is not None else place.estimate_mb
    location = {"node": place.node, "status": str(place.status), "vram_estimate_mb": estimate}
    return {key: value for key, value in location.items() if value is not None}


def _context(profile: Profile | None, places: Iterable[Replica]) -> int | None:
    """What fits wherever a request goes: the least over the loaded replicas, else over the files, else what the catalogue says."""
    told = [(place.context, place.status == ModelStatus.loaded) for place in places if place.context]
    loaded = [context for context, is_loaded in told if is_loaded]
    if known := loaded or [context for context, _ in told]:
        return min(known)
    if profile is None:
        return None
    return profile.limit.context if profile.limit else profile.context

"""Whether a model fits on a node, and who has to leave for it: figures in, devices and victims out.

Memory is that of each device: a model on several needs its share of every one. Without a GPU, host memory is the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from cortex.config.catalogue import Profile
from cortex.gateway.routing.decisions import Victim
from cortex.gateway.routing.types import UNKNOWN, Node

Strategy = Literal["lru", "priority"]
HOST = -1  # host memory, as the index of a device
EXHAUSTIVE = 10  # of so many models the fewest are found by trying all; of more, by leaving out who is not needed


@dataclass(frozen=True, slots=True)
class Tenant:
    """A model in memory that may be made to leave, and what comes free by device."""

    victim: Victim
    frees: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Fit:
    """A way to load a model: the devices (none: host memory), and who leaves first.

    free_mb  on these devices together before anybody leaves; None where a host does not tell, and is believed to have it
    """

    devices: tuple[int, ...]
    free_mb: int | None
    victims: tuple[Victim, ...] = ()


def gpus_wanted(profile: Profile | None) -> int:
    """How many GPUs the operator asked for; 0 when the profile does not say, and a host without a GPU will do."""
    if profile is None or profile.gpu_layers == 0:
        return 0
    if "min_devices" in profile.model_fields_set:
        return profile.min_devices
    return 1 if profile.min_device_vram_mb else 0


def memory_of(node: Node, profile: Profile | None, *, processor_only: bool = False) -> dict[int, int | None]:
    """Free memory by device, of those that the model may use."""
    if not node.devices or processor_only or (profile and profile.gpu_layers == 0):
        return {HOST: node.memory_free_mb}
    floor = (profile and profile.min_device_vram_mb) or 0
    return {each.index: each.free_mb for each in node.devices if each.total_mb is None or each.total_mb >= floor}


def shares(profile: Profile | None) -> tuple[float, ...]:
    """Which part of the model each device takes."""
    count = max(1, gpus_wanted(profile))
    split = profile.tensor_split if profile else None
    if split and len(split) == count and sum(split) > 0:
        return tuple(part / sum(split) for part in split)
    return (1 / count,) * count


def fit(
    free: Mapping[int, int | None],
    parts: Sequence[float],
    need_mb: int | None,
    tenants: Sequence[Tenant],
    *,
    strategy: Strategy,
    everybody: bool = False,
) -> Fit | None:
    """The devices and the fewest victims with which `need_mb` fits; None when it does not, whoever leaves.

    `everybody`: all tenants are to leave, because a load failed though it should have fitted.
    """
    place = _placing(free, parts, need_mb)
    leaving: Sequence[Tenant] | None = () if place(()) is not None else None
    if everybody:
        leaving = tenants
    elif leaving is None:
        leaving = _least(tenants, lambda some: place(some) is not None, strategy)
    if leaving is None or (devices := place(leaving)) is None:
        return None
    before = [free[index] for index in devices]
    known = [mb for mb in before if mb is not None]
    return Fit(
        devices=tuple(index for index in devices if index != HOST),
        free_mb=sum(known) if len(known) == len(before) else None,
        victims=tuple(tenant.victim for tenant in leaving),
    )


def _placing(
    free: Mapping[int, int | None], parts: Sequence[float], need_mb: int | None
) -> Callable[[Iterable[Tenant]], tuple[int, ...] | None]:
    """From who leaves to the devices on which the model then fits."""
    if len(free) > 1 or len(parts) > 1:
        return lambda leaving: _devices(_freed(free, leaving), parts, need_mb)
    ((only, has),) = free.items()  # most hosts are so, and vast fleets have many of them
    if has is None or need_mb is None:
        return lambda _leaving: (only,)

    def place(leaving: Iterable[Tenant]) -> tuple[int, ...] | None:
        left = has
        for tenant in leaving:  # not sum(): this is the innermost loop of all decisions
            left += tenant.frees.get(only, 0)
        return (only,) if left >= need_mb else None

    return place


def _freed(free: Mapping[int, int | None], leaving: Iterable[Tenant]) -> dict[int, int | None]:
    after = dict(free)
    for tenant in leaving:
        for index, mb in tenant.frees.items():
            if (known := after.get(index)) is not None:
                after[index] = known + mb
    return after


def _devices(free: Mapping[int, int | None], parts: Sequence[float], need_mb: int | None) -> tuple[int, ...] | None:
    """The freest devices, if each has room for its part. What a host does not tell is no reason against it."""
    if len(free) < len(parts):
        return None
    freest = sorted(free, key=lambda index: (-_known(free[index]), index))[: len(parts)]
    chosen = tuple(sorted(freest))
    for index, part in zip(chosen, parts, strict=True):
        has = free[index]
        if need_mb is not None and has is not None and has < math.ceil(need_mb * part):
            return None
    return chosen


def _known(mb: int | None) -> int:
    return UNKNOWN if mb is None else mb


# ---- who leaves


def cost(victims: Sequence[Victim], strategy: Strategy) -> tuple[float, ...]:
    """What an eviction is compared by: the fewest, least recently used, lowest in rank; or rank first."""
    newest = max((_use(victim) for victim in victims), default=-1.0)
    highest = max((victim.priority for victim in victims), default=-1)
    return (highest, len(victims), newest) if strategy == "priority" else (len(victims), newest, highest)


def _least(
    tenants: Sequence[Tenant], enough: Callable[[Sequence[Tenant]], bool], strategy: Strategy
) -> Sequence[Tenant] | None:
    """The cheapest tenants whose leaving is enough; None when all of them are not."""
    if not enough(tenants):
        return None
    if strategy == "priority":  # nobody of a higher rank than must be
        for rank in sorted({tenant.victim.priority for tenant in tenants}):
            lower = [tenant for tenant in tenants if tenant.victim.priority <= rank]
            if enough(lower):
                return _fewest(lower, enough, strategy)
    return _fewest(tenants, enough, strategy)


def _fewest(
    tenants: Sequence[Tenant], enough: Callable[[Sequence[Tenant]], bool], strategy: Strategy
) -> Sequence[Tenant]:
    order = sorted(tenants, key=lambda tenant: (_use(tenant.victim), tenant.victim.priority, tenant.victim.model_id))
    if len(order) > EXHAUSTIVE:
        return _pruned(order, enough)
    for count in range(1, len(order) + 1):
        if count == 1 and strategy == "lru" and (first := next((one for one in order if enough((one,))), None)):
            return (first,)  # they are in that order
        found = [some for some in combinations(order, count) if enough(some)]
        if found:
            return min(found, key=lambda some: cost([tenant.victim for tenant in some], strategy))
    return order


def _pruned(order: Sequence[Tenant], enough: Callable[[Sequence[Tenant]], bool]) -> Sequence[Tenant]:
    """From the oldest on until it is enough; then whoever is not needed stays, the newest first."""
    leaving: list[Tenant] = []
    for tenant in order:
        leaving.append(tenant)
        if enough(leaving):
            break
    for tenant in reversed(order):
        if tenant in leaving and enough(rest := [each for each in leaving if each is not tenant]):
            leaving = rest
    return leaving


def _use(victim: Victim) -> float:
    """What was never used is the oldest."""
    return victim.last_used if victim.last_used is not None else 0.0

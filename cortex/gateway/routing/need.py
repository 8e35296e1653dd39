"""How much memory a model will take, by what is known: measured last time, the catalogue, an estimate from its file.

Where it does not fit, a model may be loaded with less context: `attempts` are the ways to try, in their order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cortex.config.catalogue import Profile
from cortex.gateway.routing.decisions import Source
from cortex.gateway.routing.types import Replica

MIB = 1 << 20
# A neuron that is free to choose takes as much context as fits. Nobody leaves for more than agents need, nor for less
# than anybody can use.
GOOD_CONTEXT = 8192
LEAST_CONTEXT = 2048  # neurons go no lower by themselves
STEP = 256
# Bytes of a number in the KV cache, compared with f16 (ggml's block sizes).
_KV_SHARE = {"f32": 2.0, "q8_0": 34 / 64, "q5_1": 24 / 64, "q5_0": 22 / 64, "q4_1": 20 / 64} | dict.fromkeys(
    ("q4_0", "iq4_nl"), 18 / 64
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to try: whether others may have to leave, and with how much context.

    context  what is asked of the neuron; None: the profile's, or the neuron's choice
    counted  what the need is reckoned with; None: all of it
    """

    evicting: bool
    context: int | None = None
    counted: int | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """Memory that a model will take, in MiB; None: nobody knows."""

    mb: int | None = None
    source: Source | None = None


def attempts(profile: Profile | None) -> tuple[Attempt, ...]:
    """All ways to load a model, the best first."""
    context = profile.context if profile else None
    least = profile.min_context if profile else None
    if context is None:
        good, low = max(GOOD_CONTEXT, least or 0), least or LEAST_CONTEXT
        asked = least if least and least < LEAST_CONTEXT else None
        return (
            *(Attempt(evicting, counted=size) for evicting in (False, True) for size in (None, good)),
            *(Attempt(evicting, asked, low) for evicting in (False, True)),
        )
    sizes: list[int | None] = [None]
    while least and context > least:
        context = max(least, context // 2 // STEP * STEP)
        sizes.append(context)
    return tuple(Attempt(evicting, size, size) for size in sizes for evicting in (False, True))


def need(
    profile: Profile | None,
    file: Replica | None,
    elsewhere: Iterable[Replica],
    counted: int | None = None,
    told: int | None = None,
) -> Need:
    """What a model needs on a node.

    file       the model on that node's disk
    elsewhere  the same model on other nodes, whose figures are better than none
    counted    tokens of context, where it is to be less than all
    told       what the neuron itself said when it refused it
    """
    files = (file, *elsewhere) if file else tuple(elsewhere)
    whole = _full_need(profile, files, file, told)
    return whole if counted is None else _less(whole, profile, files, counted)


def _full_need(profile: Profile | None, files: tuple[Replica, ...], file: Replica | None, told: int | None) -> Need:
    if told is not None:
        return Need(told, "neuron")
    if file and file.measured_mb is not None:
        return Need(file.measured_mb, "measured")
    if profile and profile.vram_mb is not None:
        return Need(profile.vram_mb, "catalogue")
    if (mb := _estimate(profile, files, profile.context if profile else None)) is not None:
        return Need(mb, "estimate")
    measured = [each.measured_mb for each in files if each.measured_mb is not None]
    return Need(max(measured), "measured") if measured else Need()


def _less(whole: Need, profile: Profile | None, files: tuple[Replica, ...], counted: int) -> Need:
    """With less context it needs less; what cannot be reckoned needs as much as before."""
    context = profile.context if profile else None
    if context is None and whole.source == "neuron":
        return whole  # it had chosen the context, and found no smaller one
    smaller, larger = _estimate(profile, files, counted), _estimate(profile, files, context)
    if smaller is None or larger is None or whole.mb is None:
        return whole
    return Need(max(1, min(whole.mb, whole.mb - (larger - smaller))), "estimate")


def _estimate(profile: Profile | None, files: Iterable[Replica], context: int | None) -> int | None:
    """The estimate of the first node that has one, for another number of tokens and another type of cache."""
    for file in files:
        if file.estimate_mb is None:
            continue
        if file.estimate_context is None or file.kv_bytes_per_token is None:
            return file.estimate_mb
        share = _KV_SHARE.get((profile.kv_type if profile else None) or "f16", 1.0)
        cache = file.kv_bytes_per_token * ((context or file.estimate_context) * share - file.estimate_context)
        return max(1, round(file.estimate_mb + cache / MIB))
    return None

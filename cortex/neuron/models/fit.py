"""Does a model fit? Pure: figures in, a decision with its reasons out.

Without a GPU, host memory is the device. What loads in progress have been promised counts as taken, so that two loads
never count the same memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cortex import errors
from cortex.errors import CortexError


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that holds memory here, for the refusal's numbers."""

    model_id: str
    memory_mb: int | None
    busy: bool


@dataclass(frozen=True, slots=True)
class Memory:
    """What is free, in MiB, after what is promised to loads in progress. None: the host does not tell; nothing is refused then."""

    free_mb: int | None
    per_device_mb: tuple[int | None, ...] = ()
    residents: tuple[Resident, ...] = ()


def refusal(
    model_id: str, needed_mb: int, memory: Memory, shares: Sequence[float] = (), devices: Sequence[int] = ()
) -> CortexError | None:
    """503 `insufficient_vram` with the numbers, when `needed_mb` does not fit into what is free. A gateway plans again with them.

    shares, devices   of a model on several GPUs: each of them must have room for its part
    """
    if len(devices) > 1 and (short := _short(needed_mb, memory, shares, devices)):
        where, needed, free = short
        return _refused(f"model '{model_id}' needs about {needed} MiB on device {where}", free, needed, memory)
    if memory.free_mb is None or needed_mb <= memory.free_mb:
        return None
    return _refused(f"model '{model_id}' needs about {needed_mb} MiB", memory.free_mb, needed_mb, memory)


def host_refusal(model_id: str, needed_mb: int, free_mb: int | None) -> CortexError | None:
    """503 `insufficient_memory`, when what a model on GPUs takes of the host does not fit there. Its figures are no GPU's."""
    if free_mb is None or needed_mb <= free_mb:
        return None
    return errors.unavailable(
        f"model '{model_id}' needs about {needed_mb} MiB of host memory beside its GPU, and {max(0, free_mb)} MiB are free there",
        code="insufficient_memory",
    )


def _short(
    needed_mb: int, memory: Memory, shares: Sequence[float], devices: Sequence[int]
) -> tuple[int, int, int] | None:
    """The first device without room: its index, what it would have to hold, and what it has."""
    for index, share, free in zip(devices, shares, memory.per_device_mb, strict=True):
        part = math.ceil(needed_mb * share)
        if free is not None and part > free:
            return index, part, free
    return None


def _refused(told: str, free_mb: int, required_mb: int, memory: Memory) -> CortexError:
    resident = [{"id": held.model_id, "memory_mb": held.memory_mb, "busy": held.busy} for held in memory.residents]
    return errors.insufficient_vram(
        f"{told}, and {max(0, free_mb)} MiB are free here",
        free_mb=max(0, free_mb),
        required_mb=required_mb,
        resident=resident,
    )

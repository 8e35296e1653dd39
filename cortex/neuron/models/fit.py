"""Does a model fit, and where? Pure: figures in, a decision with its reasons out.

Without a GPU, host memory is the device. What loads in progress have been promised counts as taken, so that two loads
never count the same memory.
"""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """GPU indices for a load (empty: host memory), and what an operator should know about the choice."""

    devices: tuple[int, ...]
    notes: tuple[str, ...] = ()


def choose_devices(
    wanted: tuple[int, ...] | None,
    *,
    required: bool,
    tensor_parallel: int | None,
    free_mb: tuple[int | None, ...],
    gpu_layers: int | None,
) -> DeviceChoice:
    """Devices for a load on a host with GPUs `0…len(free_mb)-1`.

    Clients of the first generation always send `devices: [0]`: without a GPU that is a note, and an error only when the
    operator's own profile asked for GPUs. An index that is not there is an error that lists those that are.
    """
    count = len(free_mb)
    if gpu_layers == 0:
        return DeviceChoice((), ("gpu_layers = 0: the model runs on the processor",) if count else ())
    if count == 0:
        return _without_gpu(wanted, required=required)
    if wanted:
        _check_indices(wanted, count)
        return DeviceChoice(tuple(dict.fromkeys(wanted)))
    by_room = sorted(range(count), key=lambda index: (-(free_mb[index] or 0), index))
    return DeviceChoice(tuple(sorted(by_room[: tensor_parallel or 1])))


def _without_gpu(wanted: tuple[int, ...] | None, *, required: bool) -> DeviceChoice:
    if wanted and required:
        raise errors.invalid_request(
            f"devices {list(wanted)} were asked for, but this host has no GPU",
            code="no_such_device",
            param="devices",
            devices=[],
        )
    return DeviceChoice(
        (),
        (f"devices {list(wanted)} were asked for; this host has no GPU, so the model runs on the processor",)
        if wanted
        else (),
    )


def _check_indices(wanted: tuple[int, ...], count: int) -> None:
    if wrong := [index for index in wanted if not 0 <= index < count]:
        known = list(range(count))
        raise errors.invalid_request(
            f"device {wrong[0]} does not exist on this host; it has {known}",
            code="no_such_device",
            param="devices",
            devices=known,
        )


def refusal(model_id: str, needed_mb: int, memory: Memory) -> CortexError | None:
    """503 `insufficient_vram` with the numbers, when `needed_mb` does not fit into what is free. A gateway plans again with them."""
    if memory.free_mb is None or needed_mb <= memory.free_mb:
        return None
    resident = [{"id": held.model_id, "memory_mb": held.memory_mb, "busy": held.busy} for held in memory.residents]
    return errors.insufficient_vram(
        f"model '{model_id}' needs about {needed_mb} MiB, and {max(0, memory.free_mb)} MiB are free here",
        free_mb=max(0, memory.free_mb),
        required_mb=needed_mb,
        resident=resident,
    )

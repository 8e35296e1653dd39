"""Which GPUs a load gets, and which part of the model each of them takes. Pure: figures in, a decision with its reasons out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cortex import errors
from cortex.errors import CortexError


@dataclass(frozen=True, slots=True)
class Room:
    """A GPU as a load sees it.

    free_mb     MiB, after what is promised to loads in progress; None: the driver does not tell
    problem     why it cannot be used now
    foreign     why the engine has no code for it, as a sentence; None: it has
    is_part     an instance of a partitioned card (MIG): CUDA lets a process use only one of them
    """

    index: int
    free_mb: int | None = None
    uuid: str | None = None
    problem: str | None = None
    foreign: str | None = None
    is_part: bool = False


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
    gpus: Sequence[Room],
    gpu_layers: int | None,
    processor_only: str | None = None,
) -> DeviceChoice:
    """Devices for a load.

    wanted          indices that were asked for; clients of the first generation always send `[0]`, so that without a
                    GPU it is a note, and an error only when it is `required`: the operator's own profile asks for GPUs
    processor_only  why its engine uses no GPU, as a sentence; None: it does

    An index that is not there is an error that lists those that are (400), one that the engine has no code for one that says
    why (422); one that does not answer is 503.
    """
    if gpu_layers == 0:
        return DeviceChoice((), ("gpu_layers = 0: the model runs on the processor",) if gpus else ())
    if processor_only:
        return _on_processor(wanted, gpus, processor_only, required=required)
    if not gpus:
        return _without_gpu(wanted, required=required)
    chosen = _asked(wanted, tensor_parallel, gpus) if wanted else _freest(tensor_parallel or 1, gpus)
    if len(chosen) > 1 and (parts := [gpu.index for gpu in chosen if gpu.is_part]):
        raise _wrong(
            f"device {parts[0]} is an instance of a partitioned card (MIG), and an engine can use one of those alone",
            gpus,
        )
    return DeviceChoice(tuple(gpu.index for gpu in chosen))


def _on_processor(wanted: tuple[int, ...] | None, gpus: Sequence[Room], reason: str, *, required: bool) -> DeviceChoice:
    if wanted and required:
        raise _wrong(f"{reason}, and devices {list(wanted)} were asked for: leave them out", gpus)
    return DeviceChoice((), (f"{reason}: the model runs on the processor and takes host memory",) if gpus else ())


def _without_gpu(wanted: tuple[int, ...] | None, *, required: bool) -> DeviceChoice:
    if not wanted:
        return DeviceChoice(())
    if required:
        raise _wrong(f"devices {list(wanted)} were asked for, but this host has no GPU", ())
    return DeviceChoice(
        (), (f"devices {list(wanted)} were asked for; this host has no GPU, so the model runs on the processor",)
    )


def _asked(wanted: tuple[int, ...], tensor_parallel: int | None, gpus: Sequence[Room]) -> list[Room]:
    known = {gpu.index: gpu for gpu in gpus}
    if wrong := [index for index in wanted if index not in known]:
        raise _wrong(f"device {wrong[0]} does not exist on this host; it has {list(known)}", gpus)
    chosen = [known[index] for index in dict.fromkeys(wanted)]
    if foreign := [gpu for gpu in chosen if gpu.foreign]:
        raise _foreign(foreign, gpus)
    if tensor_parallel and tensor_parallel > len(chosen):
        raise _wrong(
            f"tensor_parallel {tensor_parallel} wants {tensor_parallel} devices, and devices {list(wanted)} were asked for",
            gpus,
            param="tensor_parallel",
        )
    if lost := [gpu for gpu in chosen if gpu.problem]:
        raise _lost(lost)
    return chosen


def _freest(count: int, gpus: Sequence[Room]) -> list[Room]:
    """Those with the most free memory, in the order of their indices. A card is taken in parts only when it is one alone."""
    covered = [gpu for gpu in gpus if not gpu.foreign]
    there = [gpu for gpu in covered if not gpu.problem and not (count > 1 and gpu.is_part)]
    if len(there) < count <= len(covered) and any(gpu.problem for gpu in covered):
        raise _lost([gpu for gpu in covered if gpu.problem])
    if len(there) < count:
        told = f"tensor_parallel {count} wants {count} devices, and this host has {[gpu.index for gpu in there]}"
        foreign = [gpu for gpu in gpus if gpu.foreign]
        raise _wrong(f"{told} ({_told(foreign)})" if foreign else told, gpus, param="tensor_parallel")
    freest = sorted(there, key=lambda gpu: (-(gpu.free_mb or 0), gpu.index))[:count]
    return sorted(freest, key=lambda gpu: gpu.index)


def _wrong(text: str, gpus: Sequence[Room], param: str = "devices") -> CortexError:
    return errors.invalid_request(text, code="no_such_device", param=param, devices=_usable(gpus))


def _foreign(named: Sequence[Room], gpus: Sequence[Room]) -> CortexError:
    usable = _usable(gpus)
    return errors.invalid_request(
        f"{_told(named)}; {f'devices {usable} can be used' if usable else 'no other can be used now'}",
        code="cuda_unsupported",
        param="devices",
        status=422,
        devices=usable,
    )


def _usable(gpus: Sequence[Room]) -> list[int]:
    return [gpu.index for gpu in gpus if not gpu.problem and not gpu.foreign]


def _told(gpus: Sequence[Room]) -> str:
    return "; ".join(f"device {gpu.index}: {gpu.foreign or gpu.problem}" for gpu in gpus)


def _lost(gpus: Sequence[Room]) -> CortexError:
    return errors.unavailable(f"a GPU of this host does not answer ({_told(gpus)})", code="device_lost", retry_after=30)


def shares(
    asked: Sequence[float] | None, free_mb: Sequence[int | None], *, split_mode: str | None = None
) -> tuple[float, ...]:
    """Which part of a model each of its devices takes: as was asked, else by free memory, so that unequal cards are filled alike.

    They add up to 1. Raises CortexError (400) when they cannot be those of so many devices.
    """
    count = len(free_mb)
    if count > 1 and split_mode == "none":
        raise errors.invalid_request(
            f"split_mode none puts a model on one device, and it is to have {count}: ask for one", param="split_mode"
        )
    if asked is not None:
        return _checked(asked, count)
    known = [mb for mb in free_mb if mb]
    if len(known) < count:
        return (1 / count,) * count
    return tuple(mb / sum(known) for mb in known)


def _checked(asked: Sequence[float], count: int) -> tuple[float, ...]:
    if len(asked) != count or min(asked) < 0 or sum(asked) <= 0:
        raise errors.invalid_request(
            f"tensor_split {list(asked)} must be {count} numbers of 0 or more, one for each device of the load, and not all 0",
            param="tensor_split",
        )
    return tuple(part / sum(asked) for part in asked)

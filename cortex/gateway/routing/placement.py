"""Where a model that is loaded nowhere may go, best first (DESIGN section 6.4, without eviction).

A neuron judges a load itself and with fresher numbers; what is decided here is the order in which neurons are asked.
"""

from __future__ import annotations

from collections.abc import Iterable

from cortex.config.catalogue import Profile
from cortex.gateway.routing.types import Candidate, Device, Node
from cortex.wire.fleet import LoadRequest, ModelStatus

ANY_HARNESS = frozenset(
    {"auto", "candle"}
)  # the neuron picks by the file; candle is the first generation's word for it


def candidates(model_id: str, profile: Profile | None, nodes: Iterable[Node]) -> tuple[Candidate, ...]:
    """The ready neurons that may load the model: pinned there, file present, most free memory, name."""
    able = [node for node in nodes if node.ready and feasible(node, model_id, profile)]
    able.sort(key=lambda node: _rank(node, model_id, profile))
    return tuple(Candidate(node.name, _request(node, model_id, profile)) for node in able)


def feasible(node: Node, model_id: str, profile: Profile | None) -> bool:
    """Whether the neuron could host the model, were it up and empty. What a neuron has not told is no reason against it."""
    if profile is None:  # only the catalogue may make a neuron fetch something
        return model_id in node.models
    return (
        profile.may_run_on(node.name)
        and _has_harness(node, profile)
        and _has_devices(node, profile)
        and (model_id in node.models or _fetchable(profile))
    )


def gpus_wanted(profile: Profile) -> int:
    """How many GPUs the operator asked for; 0 when the profile does not say, and a host without a GPU will do."""
    if "min_devices" in profile.model_fields_set:
        return profile.min_devices
    return 1 if profile.min_device_vram_mb else 0


def _has_harness(node: Node, profile: Profile) -> bool:
    if node.harnesses is None:
        return True
    return bool(node.harnesses) if profile.harness in ANY_HARNESS else profile.harness in node.harnesses


def _has_devices(node: Node, profile: Profile) -> bool:
    return node.devices is None or len(_eligible(node, profile)) >= gpus_wanted(profile)


def _eligible(node: Node, profile: Profile | None) -> list[Device]:
    """The devices that are large enough, the freest first."""
    floor = (profile.min_device_vram_mb if profile else None) or 0
    large = [device for device in node.devices or () if device.total_mb is None or device.total_mb >= floor]
    return sorted(large, key=lambda device: (-_known(device.free_mb), device.index))


def _fetchable(profile: Profile) -> bool:
    """A hub's repositories are called owner/name."""
    return profile.source is not None or "/" in profile.id


def _rank(node: Node, model_id: str, profile: Profile | None) -> tuple[bool, bool, bool, int, str]:
    pinned = profile is not None and node.name in profile.pinned_on
    entry = node.models.get(model_id)
    failed = entry is not None and entry.status == ModelStatus.failed
    return (not pinned, failed, entry is None, -_free_mb(node, profile), node.name)


def _free_mb(node: Node, profile: Profile | None) -> int:
    """Memory that the model could take: of as many GPUs as it may use, or of a host without any."""
    if not node.devices:
        return _known(node.memory_free_mb)
    count = max(1, gpus_wanted(profile) if profile else 1)
    return sum(_known(device.free_mb) for device in _eligible(node, profile)[:count])


def _known(megabytes: int | None) -> int:
    """An order must be total; what is unknown comes last."""
    return -1 if megabytes is None else megabytes


def _request(node: Node, model_id: str, profile: Profile | None) -> LoadRequest:
    if profile is None:
        return LoadRequest(model_id=model_id, wait=False)
    count = gpus_wanted(profile)
    if not count:
        return profile.load_request()
    chosen = [device.index for device in _eligible(node, profile)[:count]] or range(count)
    return profile.load_request(devices=tuple(sorted(chosen)))

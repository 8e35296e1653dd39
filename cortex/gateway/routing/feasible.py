"""Where a model could run at all, were the neuron up and empty: what changes seldom. Memory is weighed elsewhere."""

from __future__ import annotations

from cortex.config.catalogue import Profile
from cortex.gateway.routing.fit import gpus_wanted
from cortex.gateway.routing.snapshot import FleetSnapshot, family
from cortex.gateway.routing.types import Node, Replica

# The neuron picks by the file; candle is the first generation's word for it.
ANY_HARNESS = frozenset({"auto", "candle"})


def feasible(node: Node, model_id: str, profile: Profile | None, *, copied: bool = False) -> bool:
    """Whether the neuron could host the model. What a neuron has not told is no reason against it.

    copied  another neuron would give its file to those that accept it
    """
    given = copied and node.accepts
    if profile is None:  # only the catalogue may make a neuron fetch something
        return given or model_id in node.models
    file = given or fetchable(profile) or has_file(node, profile) or node.is_unheard
    return file and obstacle(node, profile) is None


def obstacle(node: Node, profile: Profile) -> str | None:
    """Why the neuron can never host the model, whatever is on its disk; None when nothing speaks against it."""
    if not profile.may_run_on(node.name):
        return f"pinned to {', '.join(profile.pinned_on)}"
    if node.harnesses is not None:
        if profile.harness not in ANY_HARNESS and profile.harness not in node.harnesses:
            return f"no harness '{profile.harness}'"
        if not node.harnesses:
            return "no harness"
    if node.devices is None:
        return None
    wanted = gpus_wanted(profile)
    if wanted and _large_devices(node, profile) < wanted:
        floor = f" of {profile.min_device_vram_mb} MiB" if profile.min_device_vram_mb else ""
        return f"fewer than {wanted} GPUs{floor}"
    return None


def _large_devices(node: Node, profile: Profile) -> int:
    floor = profile.min_device_vram_mb or 0
    return sum(1 for device in node.devices or () if device.total_mb is None or device.total_mb >= floor)


def fetchable(profile: Profile) -> bool:
    """A hub's repositories are called owner/name."""
    return profile.source is not None or "/" in profile.id


def has_file(node: Node, profile: Profile) -> bool:
    """Whether the neuron need not fetch the model."""
    return any(is_file_of(replica, profile.id, profile) for replica in node.models.values())


def files_of(model_id: str, profile: Profile | None, fleet: FleetSnapshot) -> dict[str, Replica]:
    """By node: the model's file. Without a profile it is listed as itself, with one also as the variant that it asks for."""
    known = fleet.known.get(family(_source(model_id, profile)), ())
    kinds = {(replica.model_id, replica.quant): replica for replica in known}
    names = {kind for kind, replica in kinds.items() if is_file_of(replica, model_id, profile)}
    if profile is None:
        names = {kind for kind in names if kind[0] == model_id}
    files = {replica.node: replica for replica in known if (replica.model_id, replica.quant) in names}
    if len({name for name, _ in names}) > 1:  # several variants on one node: itself is what is meant
        files |= {
            replica.node: replica
            for replica in known
            if replica.model_id == model_id and (replica.model_id, replica.quant) in names
        }
    return files


def is_file_of(replica: Replica, model_id: str, profile: Profile | None) -> bool:
    """Whether a listed model is what `model_id` means: itself, or the repository's variant that its profile asks for."""
    source = _source(model_id, profile)
    if family(replica.model_id) != family(source):
        return False
    quant = (profile and profile.quant) or source.partition(":")[2]
    if not quant:
        return True
    if replica.model_id == model_id and "/" not in model_id:
        return True  # a single file is served whatever quant was asked for
    listed = replica.quant or replica.model_id.partition(":")[2]
    return not listed or quant.upper() in listed.upper()


def _source(model_id: str, profile: Profile | None) -> str:
    return (profile and profile.source) or model_id

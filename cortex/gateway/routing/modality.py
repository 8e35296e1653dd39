"""What a model can be asked for, as far as that is known before it is loaded.

A neuron refuses what a loaded model cannot do. Of one that is not loaded its file's header tells, or its profile's `mode`: no
model has to leave for one that would only refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cortex import errors
from cortex.config.catalogue import Catalogue, Profile
from cortex.errors import CortexError
from cortex.gateway.routing.feasible import files_of
from cortex.gateway.routing.snapshot import FleetSnapshot
from cortex.gateway.routing.types import Replica
from cortex.wire.fleet import ModelStatus

Words = frozenset[str]

_OF_MODE: Mapping[str, Words] = {
    "chat": frozenset({"chat", "completions"}),
    "embedding": frozenset({"embeddings"}),
    "rerank": frozenset({"rerank"}),
}
_KNOWN = frozenset[str]().union(*_OF_MODE.values())
_MODE_OF_PATH: Mapping[str, str] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "chat",
    "/v1/embeddings": "embedding",
    "/v1/rerank": "rerank",
}
_SERVED = {
    "chat": "chat and completions",
    "completions": "completions",
    "embeddings": "embeddings",
    "rerank": "reranking",
}


def capabilities(profile: Profile | None, places: Iterable[Replica]) -> Words:
    """For a client to read: of the model as it is loaded, else what the operator says, else as it would be loaded."""
    known = list(places)
    loaded = _words(place for place in known if place.status == ModelStatus.loaded)
    declared = frozenset(profile.capabilities) if profile else frozenset()
    return loaded or declared or _of_mode(profile) or _words(known)


def refusal(model_id: str, path: str, catalogue: Catalogue, fleet: FleetSnapshot) -> CortexError | None:
    """Why loading the model for a request at `path` would be of no use; None where it would, or nobody knows."""
    profile = catalogue.profile(model_id)
    wanted = _MODE_OF_PATH.get(path)
    files = files_of(model_id, profile, fleet).values()
    told = [_of_mode(profile) or _KNOWN.intersection(file.capabilities) for file in files] or [_of_mode(profile)]
    if wanted is None or not all(told) or any(words & _OF_MODE[wanted] for words in told):
        return None
    serves = next(text for word, text in _SERVED.items() if word in told[0])
    return errors.invalid_request(
        f"model '{model_id}' serves {serves}, and not {path}",
        code="wrong_modality",
        param="model",
        status=422,
        model_id=model_id,
        suggestion=f'use a model for it, or set mode = "{wanted}" in this one\'s profile',
    )


def _of_mode(profile: Profile | None) -> Words:
    return _OF_MODE[profile.mode] if profile and profile.mode else frozenset()


def _words(places: Iterable[Replica]) -> Words:
    return frozenset(word for place in places for word in place.capabilities)

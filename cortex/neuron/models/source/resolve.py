"""What a client asked for → a model on disk, or what to fetch, or an error that helps. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.models.source.local import LocalModel
from cortex.neuron.models.source.variants import nearest, pick, quant_not_found

HERE = "on this host"

# The hub's own rule for names (huggingface_hub `validate_repo_id`), and a quant as llama.cpp writes it behind a colon.
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPO_ID = re.compile(rf"(?P<repo>{_NAME}/{_NAME})(?::(?P<quant>[A-Za-z0-9_.-]{{1,64}}))?")


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model on disk, and what was decided for the caller, for the job's notes."""

    model: LocalModel
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NeedsFetch:
    """Not on disk. `quant` None means the repository's usual one."""

    repo: str
    quant: str | None


def resolve(
    model_id: str, quant: str | None, models: Sequence[LocalModel], *, can_fetch: bool = True
) -> Resolved | NeedsFetch:
    """Find what `model_id` (and `quant`) mean, in this order:

    1. An id as it is listed. If it names a single file, that file is served whatever quant was asked for (clients of the
       first generation always send one), with a note.
    2. A repository: the quant in the id, else the one beside it, picks the variant. `-GGUF` at the end may be missing or
       too many, where only one repository here is so called.
    3. The hub, unless `can_fetch` is False.

    Raises CortexError: 404 `model_not_found` with the nearest id, 422 `quant_not_found` with what there is.
    """
    listed = {model.id: model for model in models}
    exact = listed.get(model_id) or listed.get(model_id.removesuffix(".gguf").removesuffix(".bin"))
    if exact is not None and exact.id != exact.repo:
        return Resolved(exact, _other_quant(exact, quant))
    wanted = parse_repo(model_id)
    if wanted is None:
        raise _unknown(model_id, models)
    repo, tag = wanted
    return _of_repo(repo, tag or quant or None, models, can_fetch=can_fetch)


def parse_repo(text: str) -> tuple[str, str | None] | None:
    """`org/repo` or `org/repo:QUANT`, taken apart; None when it is neither. What passes cannot leave a folder."""
    match = _REPO_ID.fullmatch(text)
    if match is None or ".." in text or "--" in match["repo"]:
        return None
    return match["repo"], match["quant"]


def _other_quant(model: LocalModel, quant: str | None) -> tuple[str, ...]:
    if not quant or pick(quant, [model]) is not None:
        return ()
    return (
        f"quant {quant} was asked for; '{model.id}' is one file, of quant {model.quant or 'unknown'}, and is served",
    )


def _of_repo(repo: str, quant: str | None, models: Sequence[LocalModel], *, can_fetch: bool) -> Resolved | NeedsFetch:
    name = _known_name(repo, models)
    variants = [model for model in models if name is not None and model.repo == name]
    if (found := pick(quant, variants)) is not None:
        return Resolved(found)
    if can_fetch:
        return NeedsFetch(name or repo, quant)
    if variants and quant:
        raise quant_not_found(repo, quant, variants, HERE)
    raise _unknown(repo, models)


def _known_name(repo: str, models: Sequence[LocalModel]) -> str | None:
    """The repository's name as it is on disk."""
    repos = {model.repo for model in models if model.repo}
    if repo in repos:
        return repo
    alike = [known for known in repos if _core(known) == _core(repo)]
    return alike[0] if len(alike) == 1 else None


def _core(repo: str) -> str:
    return repo.lower().removesuffix("-gguf")


def _unknown(model_id: str, models: Sequence[LocalModel]) -> CortexError:
    error = errors.model_not_found(model_id, HERE)
    if close := nearest(model_id, [model.id for model in models]):
        error = errors.invalid_request(
            f"{error.message}; did you mean '{close}'?",
            code=error.code,
            param=error.param,
            status=error.status,
            **error.extras,
            nearest=close,
        )
    return error

"""Which model is called what: `org/repo` for a repository's only variant, `org/repo:QUANT` for one of several. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from cortex.neuron.models.source.local import LocalModel


def with_ids(models: Sequence[LocalModel]) -> tuple[list[LocalModel], list[str]]:
    """`models` (their ids are paths so far) with the ids that clients use, and sentences about those that have none.

    The same file in models_dir and in the cache, or in two snapshots of the cache, is one model: the first.
    """
    variants: dict[str, dict[str, LocalModel]] = defaultdict(dict)
    for model in models:
        if model.repo and model.quant:
            variants[model.repo].setdefault(model.quant, model)
    taken: dict[str, LocalModel] = {}
    problems = []
    for model in models:
        name = _name(model, variants)
        first = taken.setdefault(name, replace(model, id=name))
        if first.files != model.files and not _copies(first, model):
            problems.append(f"{model.id}{model.path.suffix}: another model has the id '{name}' already")
    return list(taken.values()), problems


def _name(model: LocalModel, variants: dict[str, dict[str, LocalModel]]) -> str:
    if not model.repo or not model.quant:
        return model.id
    quants = variants[model.repo]
    if not _copies(model, quants[model.quant]):
        return model.id  # a second file of the same quant: only its path tells it apart
    return model.repo if len(quants) == 1 else f"{model.repo}:{model.quant}"


def _copies(one: LocalModel, other: LocalModel) -> bool:
    return [path.name for path in one.files] == [path.name for path in other.files] and one.repo == other.repo

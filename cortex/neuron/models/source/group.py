"""From files to models: parts of a split model together, projectors beside their models, and an id for each. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cortex.neuron.gguf import Header
from cortex.neuron.models.source.local import LocalModel, Origin, PartName, part_name, quant_in_name


@dataclass(frozen=True, slots=True)
class Found:
    """A readable GGUF file. `label` is its name for people and ids: the path below its root, with forward slashes."""

    path: Path
    label: str
    repo: str | None
    origin: Origin
    header: Header

    @property
    def part(self) -> PartName:
        return part_name(self.path.name[: -len(".gguf")])

    @property
    def folder(self) -> str:
        return self.label.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Scan:
    """What is on disk, and what is wrong with the rest, in sentences for the operator."""

    models: tuple[LocalModel, ...] = ()
    problems: tuple[str, ...] = ()


def group(files: Iterable[Found]) -> Scan:
    """Models of `files`, with ids that are theirs alone. What comes first wins over its like."""
    projectors: dict[str, list[Found]] = defaultdict(list)
    parts: dict[tuple[str, str, int], list[Found]] = defaultdict(list)
    for file in files:
        if file.header.is_mmproj:
            projectors[file.folder].append(file)
        elif file.header.kind == "model":  # adapters and importance matrices are no models, and no problem
            parts[file.folder, file.part.stem, file.part.count].append(file)
    problems: list[str] = []
    models: list[LocalModel] = []
    for found in parts.values():
        found.sort(key=lambda file: file.part.number)
        if problem := _incomplete(found):
            problems.append(problem)
        else:
            models.append(_model(found, projectors[found[0].folder], siblings=_stems(parts, found[0].folder)))
    named, doubles = _with_ids(models)
    return Scan(tuple(named), (*problems, *doubles))


def _stems(parts: Iterable[tuple[str, str, int]], folder: str) -> int:
    return sum(1 for other, _, _ in parts if other == folder)


def _incomplete(parts: Sequence[Found]) -> str | None:
    first = parts[0]
    count = first.part.count
    missing = [number for number in range(1, count + 1) if number not in {file.part.number for file in parts}]
    if missing or len(parts) != count:
        listed = ", ".join(str(number) for number in missing[:8])
        return f"{first.label}: of {count} parts {len(missing)} are missing: {listed}"
    for file in parts:
        split = file.header.split
        if split and (split.number + 1, split.count) != (file.part.number, count):
            return f"{file.label}: its header says part {split.number + 1} of {split.count}, and its name does not"
    if not sum(file.header.tensor_count for file in parts):
        return f"{first.label}: it has no tensors"
    return None


def _model(parts: Sequence[Found], projectors: Sequence[Found], *, siblings: int) -> LocalModel:
    first = parts[0]
    header = replace(
        first.header,
        tensor_count=sum(file.header.tensor_count for file in parts),
        tensor_bytes=sum(file.header.tensor_bytes for file in parts),
        file_bytes=sum(file.header.file_bytes for file in parts),
    )
    projector = _projector(first, projectors, alone=first.repo is not None or siblings == 1)
    return LocalModel(
        id="/".join(filter(None, (first.folder, first.part.stem))),
        repo=first.repo,
        quant=quant_in_name(first.part.stem) or header.quant,
        files=tuple(file.path for file in parts),
        size_bytes=header.file_bytes,
        mmproj=projector.path if projector else None,
        origin=first.origin,
        header=header,
    )


def _projector(model: Found, projectors: Sequence[Found], *, alone: bool) -> Found | None:
    """The folder's projector, when folder or name say that it is this model's: a wrong one would keep the model from loading.

    Of several, full precision first: F16 is what llama.cpp's own tools choose.
    """
    mine = [file for file in projectors if alone or _same_name(model.part.stem, file.part.stem)]
    order = {"F16": 0, "BF16": 1, "F32": 2}
    return min(mine, key=lambda file: (order.get(quant_in_name(file.part.stem) or "", 3), file.label), default=None)


def _same_name(model: str, projector: str) -> bool:
    """`mmproj-gemma-3-4b-it-f16` belongs to `gemma-3-4b-it-Q4_K_M`."""
    core = _without_quant(projector.lower().replace("mmproj", ""))
    return bool(core) and _without_quant(model.lower()) == core


def _without_quant(name: str) -> str:
    quant = quant_in_name(name)
    return (name if quant is None else name.replace(quant.lower(), "")).strip("-_. ")


def _with_ids(models: Sequence[LocalModel]) -> tuple[list[LocalModel], list[str]]:
    """Ids of repositories, where they are unambiguous; and sentences about models that are there twice."""
    repos: dict[str, dict[str, list[LocalModel]]] = defaultdict(lambda: defaultdict(list))
    for model in models:
        if model.repo:
            repos[model.repo][model.quant or ""].append(model)
    named = [replace(model, id=_repo_id(model, repos[model.repo])) if model.repo else model for model in models]
    return _unique(named)


def _repo_id(model: LocalModel, variants: dict[str, list[LocalModel]]) -> str:
    """`org/repo` for a repository's only variant, `org/repo:QUANT` for one of several, its path when the quant tells nothing."""
    if model is not variants[model.quant or ""][0] and not _copies(model, variants[model.quant or ""][0]):
        return model.id
    if len(variants) == 1:
        return str(model.repo)
    return f"{model.repo}:{model.quant}" if model.quant else model.id


def _copies(one: LocalModel, other: LocalModel) -> bool:
    return [path.name for path in one.files] == [path.name for path in other.files]


def _unique(models: Sequence[LocalModel]) -> tuple[list[LocalModel], list[str]]:
    seen: dict[str, LocalModel] = {}
    problems = []
    for model in models:
        if (first := seen.setdefault(model.id, model)) is model:
            continue
        if first.origin == model.origin:  # in both folder and cache is no problem: the folder wins
            problems.append(f"{model.files[0].name}: another model has the id '{model.id}' already")
    return list(seen.values()), problems

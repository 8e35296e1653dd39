"""From files to models: the parts of a split model together, projectors beside their models. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from cortex.neuron.gguf import Header
from cortex.neuron.models.source.ids import with_ids
from cortex.neuron.models.source.local import (
    PROJECTOR_ORDER,
    LocalModel,
    Origin,
    PartName,
    part_name,
    quant_in_name,
    without_quant,
)


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
        return part_name(self.path.stem)

    @property
    def home(self) -> str:
        """Where projectors are looked for: the repository, else the folder."""
        return self.repo or self.label.rpartition("/")[0]


class Scan(NamedTuple):
    """What is on disk, and what is wrong with the rest, in sentences for the operator."""

    models: tuple[LocalModel, ...] = ()
    problems: tuple[str, ...] = ()


def group(files: Iterable[Found]) -> Scan:
    """The models of `files`, with ids that are theirs alone. Of two that are alike the first wins."""
    projectors, candidates = _sorted_out(files)
    problems = [problem for parts in candidates if (problem := _incomplete(parts))]
    whole = [parts for parts in candidates if not _incomplete(parts)]
    names = defaultdict(set)
    for parts in whole:
        names[parts[0].home].add(without_quant(parts[0].part.stem))
    models = [_model(parts, _projector(parts[0], projectors, len(names[parts[0].home]))) for parts in whole]
    problems += _left_over(projectors, models, names)
    named, doubles = with_ids(models)
    return Scan(tuple(named), (*problems, *doubles))


def _sorted_out(files: Iterable[Found]) -> tuple[dict[str, list[Found]], list[list[Found]]]:
    """Projectors by home, and the parts of each model in order. Adapters and importance matrices are neither."""
    projectors: dict[str, list[Found]] = defaultdict(list)
    parts: dict[tuple[Path, str, int], list[Found]] = defaultdict(list)
    for file in files:
        if file.header.is_mmproj:
            projectors[file.home].append(file)
        elif file.header.kind == "model":
            parts[file.path.parent, file.part.stem, file.part.parts].append(file)
    return projectors, [sorted(found, key=lambda file: file.part.number) for found in parts.values()]


def _incomplete(parts: Sequence[Found]) -> str | None:
    """Why these parts are no model."""
    first = parts[0]
    count = first.part.parts
    missing = sorted(set(range(1, count + 1)) - {file.part.number for file in parts})
    if missing:
        shown = ", ".join(str(number) for number in missing[:8])
        return f"{first.label}: {len(missing)} of its {count} parts are missing (part {shown})"
    for file in parts:
        split = file.header.split
        if split and (split.number + 1, split.count) != (file.part.number, count):
            return f"{file.label}: it is part {split.number + 1} of {split.count}, and its name says otherwise"
    if not any(file.header.tensor_count for file in parts):
        return f"{first.label}: it has no tensors"
    return None


def _model(parts: Sequence[Found], projector: Found | None) -> LocalModel:
    first = parts[0]
    header = replace(
        first.header,
        tensor_count=sum(file.header.tensor_count for file in parts),
        tensor_bytes=sum(file.header.tensor_bytes for file in parts),
        file_bytes=sum(file.header.file_bytes for file in parts),
    )
    return LocalModel(
        id="/".join(filter(None, (first.label.rpartition("/")[0], first.part.stem))),
        repo=first.repo,
        quant=quant_in_name(first.part.stem) or header.quant,
        files=tuple(file.path for file in parts),
        size_bytes=header.file_bytes,
        mmproj=projector.path if projector else None,
        origin=first.origin,
        header=header,
        mmproj_bytes=projector.header.file_bytes if projector else 0,
    )


def _projector(model: Found, projectors: dict[str, list[Found]], names: int) -> Found | None:
    """The projector of a model, when it is the only one at home or the names agree: a wrong one keeps it from loading."""
    mine = [file for file in projectors.get(model.home, ()) if names == 1 or _same_name(model, file)]
    return min(
        mine, key=lambda file: (PROJECTOR_ORDER.get(quant_in_name(file.path.stem) or "", 3), file.label), default=None
    )


def _same_name(model: Found, projector: Found) -> bool:
    """`mmproj-gemma-3-4b-it-f16` belongs to `gemma-3-4b-it-Q4_K_M`."""
    return without_quant(model.part.stem) == without_quant(projector.path.stem.lower().replace("mmproj", ""))


def _left_over(
    projectors: dict[str, list[Found]], models: Sequence[LocalModel], names: dict[str, set[str]]
) -> list[str]:
    used = {model.mmproj for model in models}
    return [
        f"{files[0].label}: which of the {len(names[home])} models beside it it belongs to is not clear;"
        " give them a folder of their own, or name it as mmproj in the model's settings"
        for home, files in projectors.items()
        if names.get(home) and used.isdisjoint(file.path for file in files)
    ]

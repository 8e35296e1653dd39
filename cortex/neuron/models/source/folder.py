"""Every `*.gguf` and `*.bin` under models_dir."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cortex.neuron.models.source.local import may_be_model, quant_in_name

_REPO_PART = re.compile(r"[A-Za-z0-9][\w.-]{0,95}")


class Entry(NamedTuple):
    """A file that may be a model by its name, or a sentence about what is in its place."""

    path: Path
    label: str
    repo: str | None = None
    problem: str | None = None


def model_files(models_dir: Path) -> Iterator[Entry]:
    """The files below `models_dir` in the order of their names.

    A link to a file is the operator's word that this file is a model, wherever it is. A link to a folder is not followed,
    so there are no loops and no surprises; it is reported. Hidden files and folders are other programs' own.
    """
    if not models_dir.is_dir():
        yield Entry(models_dir, "models_dir", problem=f"models_dir {models_dir} is no folder")
        return
    failed: list[OSError] = []
    for folder, folders, names in os.walk(models_dir, onerror=failed.append):
        inside = Path(folder)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (_linked_folder(inside / name, models_dir) for name in folders if (inside / name).is_symlink())
        yield from (_entry(inside / name, models_dir) for name in sorted(names) if may_be_model(name))
    yield from (Entry(Path(str(error.filename)), "", problem=str(error)) for error in failed)


def _linked_folder(path: Path, models_dir: Path) -> Entry:
    label = _shown(path.relative_to(models_dir).as_posix())
    return Entry(path, label, problem=f"{label}: it is a link to a folder, and only links to files are followed")


def _entry(path: Path, models_dir: Path) -> Entry:
    label = path.relative_to(models_dir).as_posix()
    return entry(path, label, repo_of(label.split("/")[:-1]))


def entry(path: Path, label: str, repo: str | None) -> Entry:
    """A file under its name, or the sentence that no answer can have this name in it."""
    if (shown := _shown(label)) != label:
        return Entry(path, shown, problem=f"{shown}: its name is not UTF-8, and cannot be told to clients; rename it")
    return Entry(path, label, repo)


def _shown(label: str) -> str:
    """Python keeps a name's bytes that are not UTF-8 as lone surrogates, which JSON does not take."""
    return label.encode(errors="surrogateescape").decode(errors="replace")


def repo_of(folders: list[str]) -> str | None:
    """`org/repo/file.gguf` is a file of a repository, and so is `org/repo/Q4_K_M/file.gguf`, where hubs put large ones."""
    if len(folders) == 3 and quant_in_name(folders[2]) == folders[2].upper():
        folders = folders[:2]
    if len(folders) != 2 or not all(_REPO_PART.fullmatch(folder) for folder in folders):
        return None
    return "/".join(folders)

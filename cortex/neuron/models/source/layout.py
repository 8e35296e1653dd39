"""What a model's files are called below a `models_dir`, so that a scan there makes the same model of them. Pure."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from cortex.neuron.models.source.folder import repo_of
from cortex.neuron.models.source.local import LocalModel, may_be_model

LONGEST_PART = 255  # bytes: what file systems take
DEEPEST = 8  # folders


def names(model: LocalModel, models_dir: Path | None) -> dict[str, Path]:
    """The model's parts in order, then its projector, by their names."""
    files = [*model.files, *([model.mmproj] if model.mmproj else [])]
    return {_name(model, path, models_dir): path for path in files}


def _name(model: LocalModel, path: Path, models_dir: Path | None) -> str:
    """A model and its projector need not be of one origin."""
    if model.origin == "models_dir" and models_dir is not None and path.is_relative_to(models_dir):
        return path.relative_to(models_dir).as_posix()
    return name_in_repo(model.repo or model.id, _in_snapshot(path))


def name_in_repo(repo: str, file: PurePosixPath) -> str:
    """`org/repo/file.gguf`; a hub's deeper folders are kept where a scan knows them for a quantisation."""
    kept = PurePosixPath(repo, file)
    return str(kept if repo_of(list(kept.parts[:-1])) == repo else PurePosixPath(repo, file.name))


def checked(name: str) -> PurePosixPath:
    """A name that somebody else gave, as a path that stays below its folder. Raises ValueError, which says what is wrong."""
    parts = name.split("/")
    if not may_be_model(parts[-1]):
        raise ValueError(f"'{name}' is no name of a model's file: it must end in .gguf or .bin")
    if len(parts) > DEEPEST or any(_is_bad(part) for part in parts):
        raise ValueError(f"'{name}' is no name below a models_dir: plain folders and a file, not hidden, not '..'")
    return PurePosixPath(name)


def _is_bad(part: str) -> bool:
    """Hidden ones are other programs' own, and where what is incomplete lies."""
    too_long = len(part.encode(errors="surrogatepass")) > LONGEST_PART
    return not part or part.startswith(".") or "\\" in part or not part.isprintable() or too_long


def _in_snapshot(path: Path) -> PurePosixPath:
    """Below `snapshots/REVISION` of the Hugging Face cache."""
    parts = path.parts
    start = len(parts) - parts[::-1].index("snapshots") + 1 if "snapshots" in parts else len(parts) - 1
    return PurePosixPath(*parts[start:])

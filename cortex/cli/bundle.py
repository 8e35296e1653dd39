"""`cortex bundle create | verify | import`: a model as one file, for hosts without internet."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from cortex.cli.outcome import Exit, Failure
from cortex.cli.show import Advance, progress
from cortex.config.catalogue import Catalogue, Profile
from cortex.config.loader import ConfigError, read_toml, validate
from cortex.errors import CortexError
from cortex.neuron.bundle.errors import BundleError
from cortex.neuron.bundle.gather import Progress, gather
from cortex.neuron.bundle.install import Installed, install
from cortex.neuron.bundle.manifest import Manifest
from cortex.neuron.bundle.read import Reader
from cortex.neuron.bundle.write import partial_of, write
from cortex.neuron.models.source import LocalModel, Resolved, Scanner, resolve
from cortex.neuron.models.source.scanner import scan_folder

RESCAN_S = 15  # of a neuron: its own figure


def create(args: argparse.Namespace) -> int:
    file: Path = args.file
    if file.exists():
        raise Failure(f"'{file}' exists already: remove it, or choose another name")
    model, models_dir = _model(args)
    profile = _profile(args.catalogue, model)
    with _failures(file), progress() as advance:
        contents = gather(model, models_dir, profile, _moving(advance, "reading"))
        if partial_of(file).exists():
            print(f"cortex: continuing '{partial_of(file)}'", file=sys.stderr)
        resumed = write(file, contents, _moving(advance, "writing"))
    told = _told(file, contents.manifest) | {"size_bytes": contents.size, "resumed_bytes": resumed}
    print(json.dumps(told) if args.json else f"{file}: {_summary(contents.manifest)}")
    return Exit.ok


def verify(args: argparse.Namespace) -> int:
    """Every byte is read; what is wrong is told by its member's name."""
    try:
        with _failures(args.file), _opened(args.file) as file, progress() as advance:
            manifest = _verified(file, _moving(advance, "verifying"))
    except Failure as failure:
        if args.json and isinstance(wrong := failure.__cause__, BundleError):
            print(json.dumps({"file": str(args.file), "ok": False, "member": wrong.member, "problem": wrong.problem}))
        raise
    told = _told(args.file, manifest) | {"ok": True}
    print(json.dumps(told) if args.json else f"{args.file}: nothing is wrong with it: {_summary(manifest)}")
    return Exit.ok


def bring(args: argparse.Namespace) -> int:
    """`import`, which is Python's own word."""
    folder: Path = args.models_dir.absolute()
    with _failures(args.file), _opened(args.file) as file, progress() as advance:
        installed = install(file, folder, _moving(advance, "importing"))
    if installed.resumed:
        print(f"cortex: {installed.resumed} bytes were here already", file=sys.stderr)
    print(json.dumps(_told_of(installed)) if args.json else "\n".join(_lines(installed, folder)))
    return Exit.ok


# ---- what is in a bundle


def _model(args: argparse.Namespace) -> tuple[LocalModel, Path | None]:
    """By its id, or by one of its files. Raises Failure."""
    folder: Path | None = args.models_dir and args.models_dir.absolute()
    named = Path(args.model).absolute()
    if named.is_file():
        folder = folder or named.parent
        found = next((model for model in scan_folder(folder).models if named in model.files), None)
        if found is None:
            raise Failure(f"'{args.model}' is no model below '{folder}': `cortex inspect` says more")
        return found, folder
    models = scan_folder(folder).models if folder else Scanner(models_dir=None).scan().models
    try:
        resolved = resolve(args.model, None, models, can_fetch=False)
    except CortexError as error:
        where = f"below '{folder}'" if folder else "in Hugging Face's cache; --models-dir names another folder"
        raise Failure(f"{error.message} ({where})") from error
    assert isinstance(resolved, Resolved)  # noqa: S101  nothing is to be fetched
    return resolved.model, folder


def _profile(catalogue: Path | None, model: LocalModel) -> Profile | None:
    """The model's profile in a models.toml, whatever of its names that uses."""
    if catalogue is None:
        return None
    try:
        profiles = validate(Catalogue, read_toml(catalogue), source=str(catalogue))
    except ConfigError as error:
        raise Failure(str(error), Exit.usage) from error
    found = profiles.profile(model.id) or (profiles.profile(model.repo) if model.repo else None)
    if found is None:
        raise Failure(f"'{catalogue}' has no profile of '{model.id}'")
    return found


# ---- verify, and what is told


def _verified(file: BinaryIO, on_progress: Progress) -> Manifest:
    reader = Reader(file)
    total = sum(member.size for member in reader.manifest.members)
    for _, pieces in reader.members():
        for _ in pieces:
            on_progress(min(reader.done, total), total)
    return reader.manifest


def _told(file: Path, manifest: Manifest) -> dict[str, Any]:
    said = manifest.model_dump(exclude={"format", "version"}, exclude_none=True)
    return {"file": str(file), **said}


def _told_of(installed: Installed) -> dict[str, Any]:
    return {
        "model_id": installed.model_id,
        "files": [str(path) for path in installed.files],
        "beside": {role: str(path) for role, path in installed.beside.items()},
        "models_toml": installed.catalogue,
        "resumed_bytes": installed.resumed,
    }


def _lines(installed: Installed, folder: Path) -> Iterator[str]:
    yield f"imported '{installed.model_id}' into {folder}; a neuron that serves it lists it within {RESCAN_S} s"
    if place := installed.beside.get("catalogue"):
        yield f"what it should be loaded with belongs into models.toml, and is in {place} as well:"
        yield ""
        yield installed.catalogue.rstrip()


def _summary(manifest: Manifest) -> str:
    size = sum(member.size for member in manifest.members) / 1e6
    return f"'{manifest.model_id}', {len(manifest.members)} members, {size:.1f} MB"


def _moving(advance: Advance, what: str) -> Progress:
    return lambda done, total: advance(what, done, total)


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """`-` is standard input: a bundle is read once, from its beginning to its end."""
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    with file.open("rb") as opened:
        yield opened


@contextmanager
def _failures(file: Path) -> Iterator[None]:
    try:
        yield
    except BundleError as error:
        raise Failure(f"'{file}' is refused: {error}", Exit.damaged) from error
    except CortexError as error:
        damaged = error.code in ("file_corrupt", "not_a_model")
        raise Failure(error.message, Exit.damaged if damaged else Exit.failed) from error
    except FileNotFoundError as error:
        raise Failure(f"there is no file or folder '{error.filename}'", Exit.usage) from error
    except OSError as error:
        raise Failure(f"'{error.filename or file}': {error.strerror or error}") from error

"""A bundle → files in a models_dir. Nothing has its place before all of the bundle is known to be right."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cortex.errors import CortexError
from cortex.neuron.bundle.errors import BundleError
from cortex.neuron.bundle.gather import Progress
from cortex.neuron.bundle.manifest import Manifest
from cortex.neuron.bundle.read import Reader
from cortex.neuron.models.source.arrival import Arrival
from cortex.neuron.models.source.local import part_name
from cortex.neuron.models.source.scanner import scan_folder
from cortex.wire.sync import ModelFile


@dataclass(frozen=True, slots=True)
class Installed:
    """`model_id` is what a neuron with this models_dir will call it; `beside`: the texts that were put beside the weights.

    resumed  bytes that an earlier try had left
    """

    manifest: Manifest
    model_id: str
    files: tuple[Path, ...]
    beside: dict[str, Path]
    catalogue: str
    resumed: int


def install(file: BinaryIO, models_dir: Path, on_progress: Progress) -> Installed:
    """Raises BundleError for what is wrong with the bundle, CortexError for what is in its way here; what is right so far is kept
    for the next try.
    """
    reader = Reader(file)
    arrival = Arrival(models_dir, reader.manifest.files)
    files = {each.name: each for each in arrival.files}
    texts: dict[str, bytes] = {}
    total = sum(member.size for member in reader.manifest.members)
    with arrival.held():
        resumed = sum(arrival.have(each) for each in arrival.files)
        for member, pieces in reader.members():
            counted = _counted(pieces, reader, on_progress, total)
            if member.is_text:
                texts[member.role] = b"".join(counted)
            else:
                _take(arrival, files[member.as_file().name], counted)
        asyncio.run(arrival.settle(lambda done: on_progress(done, total)))
    places = tuple(arrival.place(each) for each in arrival.files)
    beside = {role: _beside(places[0], role, text) for role, text in texts.items()}
    catalogue = texts.get("catalogue", b"").decode(errors="replace")
    return Installed(reader.manifest, _listed(models_dir, places[0]), places, beside, catalogue, resumed)


def _counted(pieces: Iterator[bytes], reader: Reader, on_progress: Progress, total: int) -> Iterator[bytes]:
    for piece in pieces:
        on_progress(min(reader.done, total), total)
        yield piece


def _take(arrival: Arrival, file: ModelFile, pieces: Iterator[bytes]) -> None:
    """Into its partial file, behind what is there. What turns out to be altered is not kept."""
    have, at = arrival.have(file), 0
    partial = arrival.wanted(file).partial
    with partial.open("ab") if have < file.size else Path(os.devnull).open("ab") as out:
        try:
            for piece in pieces:
                out.write(piece[max(0, have - at) :])
                at += len(piece)
        except BundleError:
            if at == file.size and have < file.size:
                partial.unlink()
            raise
    if not file.size and not arrival.place(file).exists():
        partial.touch()


def _beside(first: Path, role: str, text: bytes) -> Path:
    name = {"template": "chat_template.jinja", "catalogue": "models.toml"}[role]
    place = first.with_name(f"{part_name(first.stem).stem}.{name}")
    fresh = place.with_name(f".{place.name}.{os.getpid()}")
    fresh.write_bytes(text)
    fresh.replace(place)
    return place


def _listed(models_dir: Path, first: Path) -> str:
    models, problems = scan_folder(models_dir)
    for model in models:
        if model.path == first:
            return model.id
    why = next((problem for problem in problems if first.name in problem), "its header is no model's")
    raise CortexError(f"'{first}' is in its place and is no model: {why}", status=422, code="not_a_model")

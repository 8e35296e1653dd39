"""A model on disk → what its bundle will be. Its files are read once for their sha256."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cortex.config.catalogue import Profile
from cortex.neuron.bundle import archive, manifest
from cortex.neuron.bundle.fragment import fragment
from cortex.neuron.bundle.manifest import Manifest, Member
from cortex.neuron.models.source import LocalModel
from cortex.neuron.models.source.layout import names

CHUNK = 1 << 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Contents:
    """A bundle before it is written: its manifest, and where each member comes from."""

    manifest: Manifest
    sources: Mapping[str, Path | bytes]

    @property
    def size(self) -> int:
        """Of the whole bundle, in bytes."""
        first = len(self.manifest.to_bytes())
        sizes = {manifest.NAME: first} | {member.name: member.size for member in self.manifest.members}
        around = (len(archive.header(name, size)) + len(archive.padding(size)) for name, size in sizes.items())
        return sum(sizes.values()) + sum(around) + len(archive.END)


def gather(model: LocalModel, models_dir: Path | None, profile: Profile | None, on_progress: Progress) -> Contents:
    """Raises OSError. `on_progress` hears of bytes read, and of all."""
    sources: dict[str, Path | bytes] = {manifest.CATALOGUE: fragment(model.id, model.quant, profile).encode()}
    if template := (profile and profile.chat_template) or model.header.chat_template:
        sources[manifest.TEMPLATE] = template.encode(errors="replace")
    for name, path in names(model, models_dir).items():
        sources[manifest.FOLDER + name] = path
    total = sum(path.stat().st_size for path in sources.values() if isinstance(path, Path))
    members, done = [], 0
    for name, source in sources.items():
        size, sha256 = _size_and_sha256(source, lambda more, done=done: on_progress(done + more, total))  # type: ignore[misc]
        done += size if isinstance(source, Path) else 0
        members.append(Member(name=name, role=_role(name, source, model), size=size, sha256=sha256))
    told = Manifest(
        model_id=model.id, quant=model.quant, architecture=model.header.architecture, members=tuple(members)
    )
    return Contents(told, sources)


def _role(name: str, source: Path | bytes, model: LocalModel) -> str:
    if isinstance(source, bytes):
        return "catalogue" if name == manifest.CATALOGUE else "template"
    return "projector" if source == model.mmproj else "weights"


def _size_and_sha256(source: Path | bytes, on_bytes: Callable[[int], None]) -> tuple[int, str]:
    if isinstance(source, bytes):
        return len(source), hashlib.sha256(source).hexdigest()
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
            size += len(piece)
            on_bytes(size)
    return size, digest.hexdigest()

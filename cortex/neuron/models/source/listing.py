"""What a hub says that a repository holds, checked before any of it is believed, and the variants in it. Pure.

Source: `GET /api/models/{repo}/revision/{revision}?blobs=true` of the Hugging Face Hub API.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict, Field

from cortex.neuron.models.source.local import PROJECTOR_ORDER, is_gguf, may_be_model, part_name, quant_in_name


class Lfs(BaseModel):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class RemoteFile(BaseModel):
    """A file of a repository. `etag` names its content in the cache, as the library does: sha256 of large files, git's hash of others."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rfilename: str
    size: int | None = Field(None, ge=0)
    blob_id: str = Field(alias="blobId", pattern=r"^[0-9a-f]{40}$")
    lfs: Lfs | None = None

    @property
    def etag(self) -> str:
        return self.lfs.sha256 if self.lfs else self.blob_id

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(self.rfilename)

    @property
    def is_usable(self) -> bool:
        """A model of known size, whose name stays inside its folder and is fit for a path."""
        parts = self.rfilename.split("/")
        inside = all(part not in ("", ".", "..") and part.isprintable() and "\\" not in part for part in parts)
        is_model = is_gguf(parts[-1]) or is_legacy(parts[-1])
        return inside and is_model and self.size is not None and "imatrix" not in parts[-1].lower()


def is_legacy(name: str) -> bool:
    """Whether a file name promises a model of before GGUF. Most of what ends in `.bin` is PyTorch's; those say ggml in their names."""
    return may_be_model(name) and not is_gguf(name) and "ggml" in name.lower()


class Listing(BaseModel):
    """A repository at one commit."""

    sha: str = Field(pattern=r"^[0-9a-f]{40}$")
    siblings: tuple[RemoteFile, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteVariant:
    """A variant in the hub: its parts in order."""

    files: tuple[RemoteFile, ...]

    @property
    def quant(self) -> str | None:
        path = self.files[0].path
        return quant_in_name(part_name(path.stem).stem) or quant_in_name(path.parent.name)

    @property
    def file_name(self) -> str:
        return self.files[0].rfilename


def variants(listing: Listing) -> list[RemoteVariant]:
    """What can be fetched: complete models, without projectors."""
    parts: dict[tuple[PurePosixPath, str, int], dict[int, RemoteFile]] = defaultdict(dict)
    for file in _usable(listing, projectors=False):
        name = part_name(file.path.stem)
        parts[file.path.parent, name.stem, name.parts][name.number] = file
    return [
        RemoteVariant(tuple(found[number] for number in sorted(found)))
        for (_, _, count), found in parts.items()
        if set(found) == set(range(1, count + 1))
    ]


def projector(listing: Listing) -> RemoteFile | None:
    """The projector to fetch with a model, if the repository has one."""
    found = _usable(listing, projectors=True)
    order = PROJECTOR_ORDER
    return min(
        found, key=lambda file: (order.get(quant_in_name(file.path.stem) or "", 3), file.rfilename), default=None
    )


def _usable(listing: Listing, *, projectors: bool) -> Iterable[RemoteFile]:
    """GGUF files; where there are none, those of before GGUF."""
    usable = [
        file for file in listing.siblings if file.is_usable and ("mmproj" in file.path.name.lower()) is projectors
    ]
    return [file for file in usable if is_gguf(file.path.name)] or usable

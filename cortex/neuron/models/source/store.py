"""Where fetched files go: the Hugging Face cache, or a folder that a neuron may have as its `models_dir`.

The cache's layout is the library's: content in `blobs/ETAG`, links to it in `snapshots/COMMIT/name`, the commit in
`refs/main`. A folder has plain files below `org/repo`, which can be carried to another host.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cortex.neuron.models.source.download import Wanted
from cortex.neuron.models.source.group import Scan
from cortex.neuron.models.source.hf_cache import remember_main, repo_folder
from cortex.neuron.models.source.incoming import Incoming
from cortex.neuron.models.source.layout import name_in_repo
from cortex.neuron.models.source.listing import RemoteFile
from cortex.neuron.models.source.local import LocalModel
from cortex.neuron.models.source.scanner import scan_folder, scan_repo
from cortex.neuron.models.source.transfer import Item


class Store(Protocol):
    """All but `item` block."""

    @property
    def name(self) -> str:
        """For people."""

    def item(self, repo: str, commit: str, file: RemoteFile, url: str) -> Item:
        """A file of a repository at a commit, which comes from `url`, and its place here."""

    def finish(self, repo: str, commit: str) -> None:
        """Every file of a fetch is in its place."""

    def scan(self, repo: str) -> Scan:
        """What is here of a repository."""


@dataclass(frozen=True, slots=True)
class HubCache:
    folder: Path
    name: str = "the model cache of this host"

    def item(self, repo: str, commit: str, file: RemoteFile, url: str) -> Item:
        own = repo_folder(self.folder, repo)
        wanted = Wanted(
            url=url,
            size=file.size or 0,
            sha256=file.lfs.sha256 if file.lfs else None,
            blob=own / "blobs" / file.etag,
            lock=self.folder / ".locks" / own.name / f"{file.etag}.lock",
        )
        return Item(file.rfilename, wanted, own / "snapshots" / commit / file.path)

    def finish(self, repo: str, commit: str) -> None:
        remember_main(self.folder, repo, commit)

    def scan(self, repo: str) -> Scan:
        return scan_repo(self.folder, repo)


@dataclass(frozen=True, slots=True)
class ModelsFolder:
    folder: Path

    @property
    def name(self) -> str:
        return str(self.folder)

    def item(self, repo: str, commit: str, file: RemoteFile, url: str) -> Item:  # noqa: ARG002  a folder has one revision
        sha256 = file.lfs.sha256 if file.lfs else None
        wanted = Incoming(self.folder).wanted(file.etag, file.size or 0, sha256, url)
        return Item(file.rfilename, wanted, self.folder / name_in_repo(repo, file.path), linked=False)

    def finish(self, repo: str, commit: str) -> None:  # noqa: ARG002  nothing is remembered of it
        Incoming(self.folder).tidy()

    def scan(self, repo: str) -> Scan:
        models, problems = scan_folder(self.folder)
        return Scan(tuple(model for model in models if _is_of(model, repo)), problems)


def _is_of(model: LocalModel, repo: str) -> bool:
    return model.repo == repo

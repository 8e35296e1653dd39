"""Fetching a model from a hub into the Hugging Face cache, or a folder: list, choose, download, verify, put in place.

`HF_ENDPOINT`, `HF_TOKEN` (or the saved login), `HF_HUB_OFFLINE` and the cache's place mean what they mean to the
library. Without a connection there is an answer at once: from the cache, or an error that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
from pydantic import ValidationError

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.models.source import download as dl
from cortex.neuron.models.source import hub_settings
from cortex.neuron.models.source.hf_cache import default_cache
from cortex.neuron.models.source.listing import Listing, RemoteFile, projector, variants
from cortex.neuron.models.source.local import LocalModel
from cortex.neuron.models.source.resolve import parse_repo
from cortex.neuron.models.source.store import HubCache, ModelsFolder, Store
from cortex.neuron.models.source.transfer import Item, OnProgress, OnStage, Transfer
from cortex.neuron.models.source.variants import pick, quant_not_found
from cortex.wire.fleet import JobStage

ANSWER_S = 5.0  # a hub that does not answer within this is not there
READ_S = 30.0  # without a byte, a download counts as broken and is continued
REVISION = "main"


class HubUnreachableError(Exception):
    """Nothing that answers is a hub. The cache may still have what is wanted."""


@dataclass(frozen=True)
class Hub:
    """A hub, and the cache that its files go to, or the folder `to`. `headers` carry the token: they are not shown and not logged."""

    cache_dir: Path
    to: Path | None = None
    endpoint: str = hub_settings.PUBLIC_HUB
    offline: str | None = None  # why nothing may be fetched
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    answer_s: float = ANSWER_S
    read_s: float = READ_S
    pause_s: float = 1.0  # between two attempts that brought nothing; grows

    @classmethod
    def from_environment(cls, hf_cache: Path | None = None, *, enabled: bool = True, to: Path | None = None) -> Self:
        """As the library would do it. `hf_cache` is the operator's word and wins; `enabled` is `[hub] enabled`."""
        token = hub_settings.token()
        offline = "HF_HUB_OFFLINE is set" if hub_settings.is_offline() else None
        return cls(
            cache_dir=hf_cache or default_cache(),
            to=to,
            endpoint=hub_settings.endpoint(),
            offline=offline if enabled else "[hub] enabled = false",
            headers={"authorization": f"Bearer {token}"} if token else {},
        )

    async def fetch(
        self,
        repo: str,
        quant: str | None = None,
        *,
        with_mmproj: bool = False,
        on_stage: OnStage = lambda _: None,
        on_progress: OnProgress = lambda _done, _total: None,
    ) -> LocalModel:
        """The variant of `repo` that `quant` means, on disk and verified when this returns.

        on_stage     `fetching`, then `verifying`
        on_progress  bytes done and bytes in all, of the stage that runs
        Raises CortexError: 404 no such repository, 403 gated, 422 no such quant or no GGUF, 500 the cache cannot be
        used, 502 not what was promised, 503 unreachable, 507 no room. What came before an error or a cancellation is
        kept and continued next time.
        """
        if parse_repo(repo) != (repo, None):
            raise errors.invalid_request(f"'{repo}' is no repository of a hub: it wants 'org/repo'", param="model_id")
        try:
            return await self._fetch(repo, quant, on_stage, on_progress, with_mmproj=with_mmproj)
        except HubUnreachableError as reason:
            return await self._from_disk(repo, quant, str(reason))
        except OSError as error:
            raise CortexError(
                f"{self._store.name} cannot be used: {error.strerror or error}",
                status=500,
                code="cache_error",
            ) from error

    async def _fetch(
        self, repo: str, quant: str | None, on_stage: OnStage, on_progress: OnProgress, *, with_mmproj: bool
    ) -> LocalModel:
        if self.offline:
            raise HubUnreachableError(self.offline)
        on_stage(JobStage.fetching)
        timeout = httpx.Timeout(self.read_s, connect=self.answer_s)
        async with httpx.AsyncClient(headers=self.headers, timeout=timeout, follow_redirects=True) as client:
            listing = await self._list(client, repo)
            files = _choose(repo, quant, listing, with_mmproj=with_mmproj)
            items = [self._store.item(repo, listing.sha, file, self._url(repo, listing.sha, file)) for file in files]
            await Transfer(client, items, on_stage, on_progress, self.pause_s).run()
        await dl.in_thread(self._store.finish, repo, listing.sha)
        return await self._fetched(repo, items[0])

    async def _list(self, client: httpx.AsyncClient, repo: str) -> Listing:
        url = f"{self.endpoint}/api/models/{repo}/revision/{REVISION}"
        try:
            response = await client.get(url, params={"blobs": "true"}, timeout=self.answer_s)
            _check(response, repo)
            return Listing.model_validate_json(response.content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise HubUnreachableError(f"{self.endpoint}: {error or type(error).__name__}") from error
        except ValidationError as error:
            raise HubUnreachableError(f"{self.endpoint} does not answer as a hub does") from error

    def _url(self, repo: str, commit: str, file: RemoteFile) -> str:
        return hub_settings.file_url(self.endpoint, repo, file.rfilename, commit)

    @property
    def _store(self) -> Store:
        return ModelsFolder(self.to) if self.to else HubCache(self.cache_dir)

    async def _fetched(self, repo: str, first: Item) -> LocalModel:
        found = await dl.in_thread(self._store.scan, repo)
        for model in found.models:
            if model.path == first.place:
                return model
        problem = next((text for text in found.problems if first.name in text), "it has no model's header")
        raise errors.invalid_request(f"'{repo}' was fetched and is no model: {problem}", code="not_a_model", status=422)

    async def _from_disk(self, repo: str, quant: str | None, reason: str) -> LocalModel:
        """The variant that the cache has; else the reason why there is no better answer."""
        models = (await dl.in_thread(self._store.scan, repo)).models
        if (found := pick(quant, models)) is not None:
            return found
        if self.offline and models and quant:
            raise quant_not_found(repo, quant, models, f"on this host, and nothing is fetched: {self.offline}")
        have = ", ".join(model.quant or model.file_name for model in models)
        text = f"'{repo}'{f' in quant {quant}' if quant else ''} is not on this host"
        text += f" (only {have})" if have else ""
        if self.offline:
            raise errors.invalid_request(
                f"{text}, and nothing is fetched: {reason}", code="model_not_found", param="model", status=404
            )
        raise errors.unavailable(f"{text}, and the hub cannot be reached: {reason}", code="hub_unreachable")


def _check(response: httpx.Response, repo: str) -> None:
    """The hub's refusals. It answers 401 for what does not exist, so as not to say that it does."""
    if response.status_code in (401, 404):
        raise errors.invalid_request(
            f"the hub has no repository '{repo}', or it is private and HF_TOKEN does not open it",
            code="model_not_found",
            param="model",
            status=404,
            model_id=repo,
        )
    if response.status_code == 403:
        raise CortexError(
            f"'{repo}' is gated: accept its terms at the hub, and give this host a token (HF_TOKEN) that may read it",
            status=403,
            type="permission_error",
            code="repo_gated",
        )
    response.raise_for_status()


def _choose(repo: str, quant: str | None, listing: Listing, *, with_mmproj: bool) -> list[RemoteFile]:
    """The files of the variant, the first one first."""
    known = variants(listing)
    if not known:
        raise errors.invalid_request(
            f"'{repo}' holds no GGUF file; look for a repository of its name with '-GGUF'",
            code="empty_repo",
            status=422,
        )
    variant = pick(quant, known)
    if variant is None:
        raise quant_not_found(repo, quant or "", known, "in the hub")
    mmproj = projector(listing) if with_mmproj else None
    return [*variant.files, *([mmproj] if mmproj else [])]

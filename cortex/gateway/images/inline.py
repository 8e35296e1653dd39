"""A request with its images in it: engines are shown data URLs only, and fetch nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import orjson

from cortex.config.images import ImagesSection
from cortex.gateway.images.access import refused
from cortex.gateway.images.fetch import fetch
from cortex.wire.chat.images import remote_images, with_images
from cortex.wire.fields import written


class Images:
    """`settings` are those in force."""

    def __init__(self, settings: Callable[[], ImagesSection]) -> None:
        self._settings = settings

    async def inlined(self, body: dict[str, Any]) -> dict[str, Any]:
        """The chat with what its URLs stand for; itself where it has none. Raises CortexError 400."""
        return with_images(body, found) if (found := await self.found(body)) else body

    async def found(self, body: dict[str, Any], known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
        """A data URL for each URL: the one that is known, else fetched. Raises CortexError 400."""
        urls = remote_images(body)
        fetched = await self._fetched([url for url in urls if url not in known])
        return {url: known[url] if url in known else fetched[url] for url in urls}

    async def _fetched(self, urls: list[str]) -> dict[str, str]:
        if not urls:
            return {}
        settings = self._settings()
        if not settings.allow_urls:
            raise refused(
                urls[0],
                "is not fetched here: send a data URL ('[images] allow_urls = true' in cortex.toml lets URLs be)",
            )
        if len(urls) > settings.max_count:
            raise refused(urls[settings.max_count], f"is one too many: {settings.max_count} are fetched for a request")
        try:
            async with asyncio.timeout(settings.timeout_secs):
                return {url: await fetch(url, settings) for url in urls}
        except TimeoutError:
            raise refused(urls[0], f"and those after it did not come within {settings.timeout_secs:g} s") from None

    async def inlined_bytes(self, body: bytes) -> bytes:
        """The same of a body that is passed on as it came: nearly always that is what happens to it."""
        if b'"image_url"' not in body or b'"http' not in body:
            return body
        try:
            chat = orjson.loads(body)
        except orjson.JSONDecodeError:
            return body  # for whoever reads it next to say
        inlined = await self.inlined(chat) if isinstance(chat, dict) else chat
        return body if inlined is chat else written(inlined)

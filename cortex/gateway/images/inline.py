"""A request with its images in it: engines are shown data URLs only, and fetch nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson

from cortex.config.images import ImagesSection
from cortex.gateway.images.access import refused
from cortex.gateway.images.fetch import fetch
from cortex.wire.chat.images import remote_images, with_images


class Images:
    """`settings` are those in force."""

    def __init__(self, settings: Callable[[], ImagesSection]) -> None:
        self._settings = settings

    async def inlined(self, body: dict[str, Any]) -> dict[str, Any]:
        """The chat with what its URLs stand for; itself where it has none. Raises CortexError 400."""
        urls, settings = remote_images(body), self._settings()
        if not urls:
            return body
        if not settings.allow_urls:
            raise refused(
                urls[0],
                "is not fetched here: send a data URL ('[images] allow_urls = true' in cortex.toml lets URLs be)",
            )
        if len(urls) > settings.max_count:
            raise refused(urls[settings.max_count], f"is one too many: {settings.max_count} are fetched for a request")
        try:
            async with asyncio.timeout(settings.timeout_secs):
                return with_images(body, {url: await fetch(url, settings) for url in urls})
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
        return body if inlined is chat else orjson.dumps(inlined)

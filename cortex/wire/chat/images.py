"""The images of a chat that are named by http(s) URLs, and the same chat with what they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Body = dict[str, Any]


def remote_images(body: Mapping[str, Any]) -> list[str]:
    """The URLs, each once, in their order. What is malformed is for whoever checks the request."""
    urls = (_url(part) for message in _messages(body) for part in _parts(message))
    return list(dict.fromkeys(url for url in urls if url and url.lower().startswith(("http:", "https:"))))


def with_images(body: Body, data_urls: Mapping[str, str]) -> Body:
    """The same chat with the data URL of each URL."""
    return {**body, "messages": [_replaced(message, data_urls) for message in body["messages"]]}


def _messages(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    messages = body.get("messages")
    yield from (message for message in messages if isinstance(message, dict)) if isinstance(messages, list) else ()


def _parts(message: Mapping[str, Any]) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _url(part: Any) -> str | None:
    image = part.get("image_url") if isinstance(part, dict) and part.get("type") == "image_url" else None
    url = image.get("url") if isinstance(image, dict) else None
    return url if isinstance(url, str) else None


def _replaced(message: Any, data_urls: Mapping[str, str]) -> Any:
    if not isinstance(message, dict) or not any(_url(part) in data_urls for part in _parts(message)):
        return message
    return {**message, "content": [_inlined(part, data_urls) for part in _parts(message)]}


def _inlined(part: Any, data_urls: Mapping[str, str]) -> Any:
    data = data_urls.get(_url(part) or "")
    return part if data is None else {**part, "image_url": {**part["image_url"], "url": data}}

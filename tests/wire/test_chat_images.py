"""The images of a chat that are named by URLs."""

import pytest

from cortex.wire.chat.images import remote_images, with_images

URL, DATA = "https://example.org/a.png", "data:image/png;base64,AA=="


def image(url):
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def chat(*parts):
    return {"model": "m", "messages": [{"role": "user", "content": list(parts)}, {"role": "user", "content": "x"}]}


def test_urls_are_found_once_and_replaced_everywhere():
    """What is data stays, what else a part or a message says too, and the request is left as it is."""
    asked = chat(image(URL), {"type": "text", "text": URL}, image(DATA), image(URL), image("HTTP://b/"))
    assert remote_images(asked) == [URL, "HTTP://b/"]
    shown = with_images(asked, {URL: DATA})
    parts = shown["messages"][0]["content"]
    assert [part["image_url"]["url"] for part in parts if "image_url" in part] == [DATA, DATA, DATA, "HTTP://b/"]
    assert parts[0]["image_url"]["detail"] == "low"
    assert parts[1]["text"] == URL
    assert shown["messages"][1] is asked["messages"][1]
    assert asked["messages"][0]["content"][0] == image(URL)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": None},
        {"messages": "x"},
        {"messages": ["x", None, {"content": None}, {"content": "x"}, {"content": {"type": "image_url"}}]},
        chat("x", None, {"type": "image_url"}, {"type": "image_url", "image_url": URL}, image(None), image(3)),
        chat({"type": "image_url", "image_url": {"url": "ftp://x/"}}, {"type": 3, "image_url": {"url": URL}}),
    ],
)
def test_what_is_malformed_is_for_whoever_checks_the_request(body):
    """Nothing is found there, and nothing fails."""
    assert remote_images(body) == []

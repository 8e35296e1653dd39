"""What holds for the translation of every stream, into whichever dialect: of its events, of cuts, and of an engine that breaks off."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from helpers.chat_streams import STREAMS, pieces_at
from hypothesis import strategies as st

CUTS = st.sampled_from(sorted(STREAMS)).flatmap(
    lambda name: st.tuples(st.just(STREAMS[name]), st.lists(st.integers(0, len(STREAMS[name])), max_size=30))
)


def named_events(sent: bytes) -> list[Any]:
    """The events as JSON; each one's name must equal its data's type."""
    events = []
    for block in sent.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == "event: " + event["type"]
        events.append(event)
    assert sent == b"" or sent.endswith(b"\n\n")
    return events


def check_every_cut(translate: Callable[..., bytes], events: bytes) -> None:
    """A stream that arrives cut at any byte is translated to the same bytes: no character and no event is split."""
    expected = translate(events)
    for cut in range(len(events)):
        assert translate(*pieces_at(events, cut)) == expected


def beginnings(events: bytes) -> Iterator[tuple[bytes, bool]]:
    """Every part of a stream that ends between two events, and whether its finish reason had come."""
    blocks = events.replace(b"\r\n", b"\n").split(b"\n\n")
    for count in range(len(blocks)):
        part = b"".join(block + b"\n\n" for block in blocks[:count])
        yield part, b'"finish_reason":"' in part

"""Bytes for the client of a stream while its upstream loads, queues or prefills, so that no idle timer on the way strikes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from cortex.net.pool import Exchange
from cortex.net.relay import Sink, stream_headers
from cortex.tasks import running

STREAM_HEAD = stream_headers([("content-type", "text/event-stream; charset=utf-8")])


async def open_with_keepalive(
    opening: Coroutine[Any, Any, Exchange],
    sink: Sink,
    *,
    grace_s: float = 1.0,
    interval_s: float = 1.0,
    comment: bytes,
) -> tuple[Exchange, bool]:
    """Await `opening`, and return its exchange with whether the sink was started meanwhile.

    When nothing has come after `grace_s`, the sink is started as an event stream with status 200 and `comment` is sent
    at once and every `interval_s`. Whatever `opening` raises is raised here; cancellation, and a client that is gone
    (the sink raises), cancel it and close an exchange that came too late.
    """
    started = False
    try:
        async with running(opening, name="open upstream") as task:
            await asyncio.wait([task], timeout=grace_s)
            while not task.done():
                if not started:
                    await sink.start(200, STREAM_HEAD)
                    started = True
                await sink.send(comment)
                await asyncio.wait([task], timeout=interval_s)
            return task.result(), started
    except BaseException:
        if task.done() and not task.cancelled() and task.exception() is None:
            task.result().close()
        raise

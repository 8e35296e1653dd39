"""An engine's stream, translated, to a client: at the client's pace, and as long as the engine shows results."""

from __future__ import annotations

from cortex.net.keepalive import STREAM_HEAD
from cortex.net.pool import Exchange
from cortex.net.relay import EventTail, Sink
from cortex.neuron.api.patience import Patience
from cortex.neuron.harness.base import Translation


async def answer(
    exchange: Exchange, sink: Sink, translation: Translation, patience: Patience, *, started: bool
) -> None:
    """Raises NetError when the engine breaks off and CortexError when it fails; what a client of a stream has are whole events.

    `started`: the sink has its head already.
    """
    if not translation.whole and not started:
        await sink.start(200, STREAM_HEAD)
    tail = EventTail()
    while piece := await patience.on(exchange.read()):
        if events := tail.push(piece):
            await _pass(events, sink, translation, patience)
    await _finish(sink, translation)


async def _pass(events: bytes, sink: Sink, translation: Translation, patience: Patience) -> None:
    if b"data:" in events:
        patience.result_came()
    if translated := translation.push(events):
        await sink.send(translated)
    if translation.failure:
        raise translation.failure
    patience.answering = translation.begun


async def _finish(sink: Sink, translation: Translation) -> None:
    rest = translation.end()
    if translation.whole:
        await sink.start(200, [("content-type", "application/json"), ("content-length", str(len(rest)))])
    if rest:
        await sink.send(rest)
    await sink.finish()

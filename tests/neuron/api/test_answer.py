"""An engine's stream to a client, over a real socket, with an engine that misbehaves."""

import asyncio

import orjson
import pytest
from helpers import virtual_time
from helpers.engines import says
from helpers.pooled import serving
from helpers.translated import never
from helpers.upstream import Peer, forever

from cortex.errors import CortexError
from cortex.net.errors import ConnectionLost
from cortex.neuron.api.answer import answer
from cortex.neuron.api.patience import Pulse, patience
from cortex.neuron.harness import generation

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
COMMENT = b":\n\n"


def said(**delta) -> bytes:
    finish = delta.pop("finish_reason", None)
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    usage = {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}} if finish else {}
    return b"data: " + orjson.dumps({"id": "1", "choices": [choice], **usage}) + b"\n\n"


PROGRESS = b'data: {"choices":[],"prompt_progress":{"total":9,"processed":1}}\n\n'
WHOLE = [said(role="assistant", content=None), said(content="Hi"), said(finish_reason="stop"), b"data: [DONE]\n\n"]


async def _breathe(_peer):
    await asyncio.sleep(0.005)


class Client:
    """A client that takes its time."""

    def __init__(self, takes_s=0.0):
        self.takes_s = takes_s
        self.status = 0
        self.headers: dict[str, str] = {}
        self.got = b""
        self.finished = False

    async def start(self, status, headers):
        self.status, self.headers = status, dict(headers)

    async def send(self, data):
        await asyncio.sleep(self.takes_s)
        self.got += data

    async def finish(self):
        self.finished = True


async def ask(client, script, *, stream, idle_s):
    async with serving([Peer.request, HEAD, *script]) as (pool, address, _):
        translation = generation.chat(says("hi", stream=stream), never).translation
        assert translation
        async with (
            patience(Pulse(), idle_s) as waiting,
            await waiting.on(pool.open(address, "POST", "/x")) as exchange,
        ):
            await answer(exchange, client, translation, waiting, started=False)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("before", [[], WHOLE[:2]])
def test_comments_do_not_hide_a_stalled_engine(stream, before):
    """An engine whose server goes on sending comments while the model hangs is found out."""

    async def scenario():
        client = Client()
        with pytest.raises(CortexError) as stalled:
            await ask(client, [*before, forever(COMMENT, _breathe)], stream=stream, idle_s=0.2)
        assert stalled.value.status == 504
        assert not client.finished
        assert client.status == (200 if stream else 0)

    virtual_time.run(scenario())


@pytest.mark.parametrize("stream", [True, False])
def test_progress_is_a_sign_of_life(stream):
    """A prefill may take many times the idle time-out, as long as it moves."""

    async def scenario():
        client = Client()
        moves = [step for _ in range(120) for step in (PROGRESS, _breathe)]
        await ask(client, [*moves, *WHOLE, Peer.close], stream=stream, idle_s=0.3)
        assert client.finished

    virtual_time.run(scenario())


@pytest.mark.parametrize("stream", [True, False])
def test_a_slow_client_is_no_stalled_engine(stream):
    """The time that a client takes for a piece does not count."""

    async def scenario():
        client = Client(takes_s=0.5)
        await ask(client, [*WHOLE, Peer.close], stream=stream, idle_s=0.2)
        assert client.finished

    virtual_time.run(scenario())


def test_a_whole_answer_is_json_with_its_length():
    """Not a stream, and nothing before it is whole."""

    async def scenario():
        client = Client()
        await ask(client, [*WHOLE, Peer.close], stream=False, idle_s=5)
        assert client.headers == {"content-type": "application/json", "content-length": str(len(client.got))}
        assert orjson.loads(client.got)["choices"][0]["message"]["content"] == "Hi"

    virtual_time.run(scenario())


@pytest.mark.parametrize("stream", [True, False])
def test_an_engine_that_breaks_off_is_no_whole_answer(stream):
    """A connection that is lost, or a stream that just ends, is an error; a client that got nothing yet has no status either."""

    async def scenario():
        for end, error in ((Peer.reset, ConnectionLost), (Peer.close, CortexError)):
            client = Client()
            with pytest.raises(error):
                await ask(client, [*WHOLE[:2], end], stream=stream, idle_s=5)
            assert not client.finished
            assert client.status == (200 if stream else 0)

    virtual_time.run(scenario())

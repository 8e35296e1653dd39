"""An engine may be silent for so long, and what counts as a sign of life."""

import asyncio

import pytest
from helpers import virtual_time
from helpers.waiting import until

from cortex.errors import CortexError
from cortex.neuron.api.patience import Pulse, patience
from cortex.tasks import running

IDLE_S = 0.3


async def _beats(pulse):
    while True:
        pulse.at = asyncio.get_running_loop().time()
        await asyncio.sleep(0.005)


def test_silence_is_a_504():
    """An engine that says nothing at all is not waited for for ever, and the time is told."""

    async def scenario():
        with pytest.raises(CortexError, match=r"nothing for 0\.05 s") as stalled:
            async with patience(Pulse(), 0.05) as waiting:
                await waiting.on(asyncio.Event().wait())
        assert (stalled.value.status, stalled.value.code) == (504, "upstream_timeout")

    virtual_time.run(scenario())


def test_before_its_first_token_a_request_waits_while_the_engine_works_for_others():
    """Results of other requests are a sign of life of an engine in whose queue this one stands."""

    async def scenario():
        pulse = Pulse()
        loop = asyncio.get_running_loop()
        turn = asyncio.Event()
        async with running(_beats(pulse), name="others"), patience(pulse, IDLE_S) as waiting:
            loop.call_later(4 * IDLE_S, turn.set)
            await waiting.on(turn.wait())
        assert turn.is_set()

    virtual_time.run(scenario())


def test_afterwards_only_its_own_results_count():
    """An answer that has begun and goes silent is stalled, however busy its engine is."""

    async def answering(pulse):
        async with patience(pulse, IDLE_S) as waiting:
            waiting.answering = True
            await waiting.on(asyncio.Event().wait())

    async def scenario():
        pulse = Pulse()
        async with running(_beats(pulse), name="others"):
            await until(lambda: pulse.at > 0)
            with pytest.raises(CortexError):
                await answering(pulse)

    virtual_time.run(scenario())


def test_waits_without_results_add_up():
    """Wake-ups that bring no result do not begin the time anew; a result does."""

    async def scenario():
        async def nudges(*, results):
            async with patience(Pulse(), IDLE_S) as waiting:
                for _ in range(60):
                    await waiting.on(asyncio.sleep(IDLE_S / 30))
                    if results:
                        waiting.result_came()

        await nudges(results=True)
        with pytest.raises(CortexError):
            await nudges(results=False)

    virtual_time.run(scenario())


def test_other_time_outs_stay_what_they_are():
    """A TimeoutError of the block itself is not taken for a stalled engine."""

    async def scenario():
        with pytest.raises(TimeoutError, match="mine"):
            async with patience(Pulse(), IDLE_S):
                raise TimeoutError("mine")

    virtual_time.run(scenario())

"""The readings of a host's hardware, taken by whoever wants fresh ones."""

from __future__ import annotations

import asyncio

from cortex.neuron.hardware.watch import HardwareWatch


def test_whoever_reads_at_the_same_time_shares_a_probe_and_disturbs_nobody():
    """A load and the clock ask for readings as they like: none of them looks at the other's unfinished probe."""

    async def scenario():
        async with HardwareWatch(None).running() as watch:

            async def read(pause: int) -> None:
                for _ in range(30):
                    await watch.refresh()
                    for _ in range(pause):
                        await asyncio.sleep(0)

            await asyncio.gather(*(read(pause) for pause in range(8)))
            assert watch.memory_free_mb

    asyncio.run(scenario())

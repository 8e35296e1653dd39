"""A neuron that gets no requests is probed where it is now: its name may have come back at another address."""

from __future__ import annotations

import asyncio
import contextlib

from benchmarks.ports import free_port
from helpers.fake_neuron import FakeNeuron
from helpers.gateways import eventually

from cortex.config.gateway import GatewayConfig, NeuronRef
from cortex.gateway.fleet.breakers import Breakers
from cortex.gateway.fleet.clients import Clients
from cortex.gateway.fleet.state import Fleet
from cortex.net.address import Address
from cortex.net.pool import Pool
from cortex.tasks import Tasks


def test_a_neuron_that_has_moved_gets_requests_again() -> None:
    """Its old address answers nobody any more: a lease that ran out, or a line that was mended in the configuration."""
    gone = NeuronRef(name="a", endpoint=f"http://127.0.0.1:{free_port()}")

    async def scenario() -> None:
        tasks, fleet = Tasks("test"), Fleet([gone], unhealthy_after=3)
        async with (
            Pool() as pool,
            Clients(GatewayConfig(neurons=(gone,))) as clients,
            FakeNeuron("a") as moved,
            contextlib.AsyncExitStack() as stack,
        ):
            stack.push_async_callback(tasks.aclose)
            breakers = Breakers(fleet, clients, pool, tasks)
            breakers.trip("a", Address.parse(gone.endpoint))
            assert await breakers.is_cut_off("a")
            fleet.remove("a")
            fleet.add(moved.ref)
            clients.remove("a")
            clients.add(moved.ref)

            async def is_back() -> bool:
                return not await breakers.is_cut_off("a")

            await eventually(is_back)
            assert moved.asked.count("/health") == 1

    asyncio.run(scenario())

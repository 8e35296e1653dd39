"""What a changed configuration leaves to a restart is told for as long as that is so."""

from __future__ import annotations

import asyncio
from typing import Any

from helpers.gateways import Client, gateway

from cortex.config.catalogue import Catalogue
from cortex.config.listen import Listen


async def left_to_a_restart(client: Client, **settings: Any) -> list[str]:
    """After the taking over of the running configuration with these settings of the gateway instead."""
    change = client.handle.reconfiguration
    known = change._live.config
    await change.apply(known.model_copy(update={"gateway": known.gateway.model_copy(update=settings)}), Catalogue())
    told: list[str] = (await client.get("/status")).json()["config"]["restart_for"]
    return told


def test_what_is_taken_back_needs_no_restart() -> None:
    """It is compared with what the gateway was started with, and not with the change before."""

    async def scenario() -> None:
        async with gateway([]) as client:
            assert await left_to_a_restart(client, listen=Listen("127.0.0.1", 1)) == ["gateway.listen"]
            assert await left_to_a_restart(client, metrics_tls=False) == ["gateway.listen", "gateway.metrics_tls"]
            assert await left_to_a_restart(client, listen=Listen("127.0.0.1", 0)) == ["gateway.metrics_tls"]
            assert await left_to_a_restart(client, metrics_tls=True, drain_secs=1) == []

    asyncio.run(scenario())

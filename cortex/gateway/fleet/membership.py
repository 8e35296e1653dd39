"""Who belongs to the fleet: configured neurons, and those that joined. Only here are neurons added to it and removed."""

from __future__ import annotations

import asyncio
import logging
import time

from cortex.config.gateway import GatewayConfig, NeuronRef
from cortex.gateway.fleet.clients import Clients
from cortex.gateway.fleet.joining import SILENCE, Joined, admit
from cortex.gateway.fleet.poller import Poller
from cortex.gateway.fleet.state import Fleet

LOOK_S = 0.5  # how often it is looked for neurons that fell silent

log = logging.getLogger(__name__)


class Membership:
    """One change at a time: each waits until polling of who leaves has ended."""

    def __init__(self, config: GatewayConfig, fleet: Fleet, clients: Clients, poller: Poller) -> None:
        self._config = config
        self._fleet = fleet
        self._clients = clients
        self._poller = poller
        self._joined: dict[str, Joined] = {}
        self._changing = asyncio.Lock()

    @property
    def joined(self) -> frozenset[str]:
        """Names of those that came by themselves."""
        return frozenset(self._joined)

    # ---- configured neurons

    def check(self, config: GatewayConfig) -> None:
        """Raises TlsError when an authority of a neuron cannot be used."""
        self._clients.check({ref.tls_ca for ref in config.trusted_neurons} | {config.gateway.neuron_tls_ca})

    async def configure(self, config: GatewayConfig) -> list[str]:
        """Take over what differs; returns it in words. Who had joined and is configured now is so from now on."""
        async with self._changing:
            before = {ref.name: ref for ref in self._config.trusted_neurons}
            after = {ref.name: ref for ref in config.trusted_neurons}
            self._config = config
            self._clients.configure(config.gateway)
            self._poller.interval_s = config.gateway.poll_interval_secs
            self._fleet.unhealthy_after = config.gateway.unhealthy_after
            endpoints = {ref.endpoint for ref in after.values()}
            for name, member in list(self._joined.items()):
                if name in after or member.ref.endpoint in endpoints:
                    await self._forget(name)
            return await self._take_over(before, after)

    async def _take_over(self, before: dict[str, NeuronRef], after: dict[str, NeuronRef]) -> list[str]:
        said = []
        for name in [name for name in before if name not in after]:
            await self._remove(name)
            said.append(f"neuron '{name}' left")
        for name, ref in after.items():
            if name not in before:
                self._add(ref)
                said.append(f"neuron '{name}' came")
            elif ref != before[name]:
                await self._replace(before[name], ref)
                said.append(f"neuron '{name}' changed")
        return said

    # ---- neurons that join

    async def join(self, name: str, endpoint: str, interval_s: float) -> bool:
        """Whether it is, or stays, a member by its own word. Raises CortexError when it may not be."""
        async with self._changing:
            ref = self._config.trusted(NeuronRef(name=name, endpoint=endpoint))
            configured = {ref.name: ref for ref in self._config.neurons}
            healthy = {view.name for view in self._fleet.views if view.healthy}
            if not admit(ref, configured, self._joined, healthy):
                return False
            known = self._joined.get(name)
            if known is None:
                self._add(ref, elsewhere=False)
                log.info("neuron '%s' joined at %s", name, endpoint)
            elif known.ref != ref:
                await self._replace(known.ref, ref, elsewhere=False)
                log.info("neuron '%s' joined anew at %s", name, endpoint)
            self._joined[name] = Joined(ref, time.monotonic() + SILENCE * interval_s)
            return True

    async def leave(self, name: str, endpoint: str) -> None:
        async with self._changing:
            member = self._joined.get(name)
            if member and member.ref.endpoint == endpoint:
                await self._forget(name)
                log.info("neuron '%s' left", name)

    async def watch(self) -> None:
        """Let go of whoever fell silent, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            async with self._changing:
                now = time.monotonic()
                for name in [name for name, member in self._joined.items() if member.until < now]:
                    await self._forget(name)
                    log.warning("neuron '%s' fell silent and has left", name)

    # ---- inside

    async def _forget(self, name: str) -> None:
        del self._joined[name]
        await self._remove(name)

    def _add(self, ref: NeuronRef, *, elsewhere: bool = True) -> None:
        client = self._clients.add(ref, elsewhere=elsewhere)
        self._fleet.add(ref)
        self._poller.add(client)

    async def _remove(self, name: str) -> None:
        await self._poller.remove(name)
        self._fleet.remove(name)
        self._clients.remove(name)

    async def _replace(self, old: NeuronRef, new: NeuronRef, *, elsewhere: bool = True) -> None:
        """Another endpoint is another neuron; another token or authority is the same one, asked differently."""
        if old.endpoint == new.endpoint:
            self._poller.ask_through(self._clients.add(new, elsewhere=elsewhere))
        else:
            await self._remove(old.name)
            self._add(new, elsewhere=elsewhere)

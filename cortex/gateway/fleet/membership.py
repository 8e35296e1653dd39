"""Who belongs to the fleet. Only here are neurons added to it and removed from it."""

from __future__ import annotations

from cortex.config.gateway import GatewayConfig, NeuronRef
from cortex.gateway.fleet.clients import Clients
from cortex.gateway.fleet.poller import Poller
from cortex.gateway.fleet.state import Fleet


class Membership:
    """The configured neurons."""

    def __init__(self, config: GatewayConfig, fleet: Fleet, clients: Clients, poller: Poller) -> None:
        self._config = config
        self._fleet = fleet
        self._clients = clients
        self._poller = poller

    def check(self, config: GatewayConfig) -> None:
        """Raises TlsError when an authority of a neuron cannot be used."""
        self._clients.check(config.trusted_neurons)

    async def configure(self, config: GatewayConfig) -> list[str]:
        """Take over what differs; returns it in words."""
        before = {ref.name: ref for ref in self._config.trusted_neurons}
        after = {ref.name: ref for ref in config.trusted_neurons}
        self._config = config
        self._clients.configure(config.gateway)
        self._poller.interval_s = config.gateway.poll_interval_secs
        self._fleet.unhealthy_after = config.gateway.unhealthy_after
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

    def _add(self, ref: NeuronRef) -> None:
        client = self._clients.add(ref)
        self._fleet.add(ref)
        self._poller.add(client)

    async def _remove(self, name: str) -> None:
        await self._poller.remove(name)
        self._fleet.remove(name)
        self._clients.remove(name)

    async def _replace(self, old: NeuronRef, new: NeuronRef) -> None:
        """Another endpoint is another neuron; another token or authority is the same one, asked differently."""
        if old.endpoint == new.endpoint:
            self._poller.ask_through(self._clients.add(new))
        else:
            await self._remove(old.name)
            self._add(new)

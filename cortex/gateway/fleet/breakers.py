"""Neurons whose data plane fails get no requests until a probe of it is answered.

One request that fails makes its neuron suspect: it is looked at now, and gets requests meanwhile only where no other
replica serves. So a host that is gone costs the requests that were on their way to it, and none of those that follow.

Who waits there for a first byte meanwhile is told as soon as the neuron is cut off, and again at every probe that fails, if
the kernel says that the host confirms nothing more. A host that is only busy still does: what it works on is left to it,
until polls fail, or the answer's own time-out. A request that waits there alone has no earlier witness than its own
connection, which gives up after `net.http1.UNRECEIVED_S`: a shorter time would move models for a switch that restarts.

The control plane may be well meanwhile: a neuron that answers polls and resets every request must not eat three attempts
of each. Probes are ours alone: no client's request is risked to find out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from cortex.gateway.fleet.breaker import CLOSED, Breaker, Circuit
from cortex.gateway.fleet.client import NeuronClient
from cortex.gateway.fleet.state import Fleet
from cortex.net.address import Address
from cortex.net.errors import NetError
from cortex.net.pool import Pool
from cortex.tasks import Tasks

PROBE_S = 2.0

log = logging.getLogger(__name__)


class Breakers:
    """`failed` and `answered` are told by whoever sends requests. Only neurons in trouble are remembered."""

    def __init__(
        self,
        fleet: Fleet,
        clients: Mapping[str, NeuronClient],
        pool: Pool,
        tasks: Tasks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet = fleet
        self._clients = clients
        self._pool = pool
        self._tasks = tasks
        self._clock = clock
        self._breakers: dict[str, Breaker] = {}
        self._suspects: dict[str, asyncio.Task[None]] = {}

    def failed(self, node: str, address: Address) -> None:
        """A request to `address` got no answer: no connection, a lost one, no HTTP, or silence.

        Of many that fail together one is counted: what the look at the neuron finds holds for all of them.
        """
        if node in self._suspects:
            return
        breaker = self._breakers.get(node, CLOSED).failed(self._clock())
        if breaker.circuit is Circuit.closed:
            self._suspect(node, address)
        self._change(node, address, breaker)

    def trip(self, node: str, address: Address) -> None:
        """Neither requests nor polls get there."""
        self._change(node, address, self._breakers.get(node, CLOSED).tripped(self._clock()))

    async def is_cut_off(self, node: str) -> bool:
        """Whether it gets no requests; where it is being looked at, once that is known."""
        if look := self._suspects.get(node):
            await asyncio.wait([look])
        return self._breakers.get(node, CLOSED).is_open

    def _change(self, node: str, address: Address, breaker: Breaker) -> None:
        was_open = self._breakers.get(node, CLOSED).is_open
        self._breakers[node] = breaker
        self._show(node)
        if breaker.is_open and not was_open:
            log.warning("neuron '%s' gets no requests until a probe is answered", node)
            self._pool.abandon((address,), unreceived=True)
            self._tasks.start(f"probe {node}", self._probe(node, address))

    def answered(self, node: str) -> None:
        """A request was answered, whatever the answer."""
        if node in self._breakers:
            self._settle(node, CLOSED)

    def _suspect(self, node: str, address: Address) -> None:
        if node not in self._suspects:
            self._suspects[node] = self._tasks.start(f"look at {node}", self._look_at(node, address))

    async def _look_at(self, node: str, address: Address) -> None:
        try:
            answered = await self._answers(node, address)
        finally:
            self._suspects.pop(node, None)
            self._show(node)
        if not answered and self._fleet.view(node):
            self.trip(node, address)

    async def _probe(self, node: str, address: Address) -> None:
        """Until it answers, or leaves the fleet."""
        while (breaker := self._breakers.get(node, CLOSED)).retry_at is not None:
            await self._fleet.changed.wait(max(0.0, breaker.retry_at - self._clock()))
            if self._fleet.view(node) is None:
                self._breakers.pop(node, None)
                return
            if self._clock() < breaker.retry_at:
                continue
            address = self._now_at(node, address)
            answered = await self._answers(node, address)
            if not answered:
                self._pool.abandon((address,), unreceived=True)
            self._settle(node, self._breakers.get(node, CLOSED).probed(self._clock(), answered=answered))

    def _now_at(self, node: str, address: Address) -> Address:
        """An address that serves none of its models any more is asked in vain: the neuron may be elsewhere by now."""
        view, client = self._fleet.view(node), self._clients.get(node)
        known = view.addresses.values() if view else ()
        return address if client is None or address in known else client.address

    async def _answers(self, node: str, address: Address) -> bool:
        """Any HTTP answer will do: it is the way there that is in question."""
        client = self._clients.get(node)
        headers = client.credentials if client and client.address.host == address.host else ()
        try:
            async with await self._pool.open(
                address, "GET", "/health", headers=headers, head_timeout_s=PROBE_S, connect_timeout_s=PROBE_S
            ):
                return True
        except NetError as error:
            log.debug("probe of '%s': %s", node, error)
            return False

    def _settle(self, node: str, breaker: Breaker) -> None:
        was = self._breakers.get(node, CLOSED)
        if breaker == CLOSED:
            self._breakers.pop(node, None)
        else:
            self._breakers[node] = breaker
        self._show(node)
        if was.is_open and not breaker.is_open:
            log.info("neuron '%s' gets requests again", node)

    def _show(self, node: str) -> None:
        circuit = self._breakers.get(node, CLOSED).circuit
        if circuit is Circuit.closed and node in self._suspects:
            circuit = Circuit.suspected
        self._fleet.set_circuit(node, circuit)

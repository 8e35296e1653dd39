"""`[join]`: this neuron tells gateways of itself, for as long as it runs, and tells them when it leaves.

A gateway that cannot be reached, or refuses, is told again at the next interval; the log says so once, not every time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
from collections.abc import AsyncIterator

import orjson

from cortex.config.neuron import NeuronConfig
from cortex.net import tls
from cortex.net.address import Address
from cortex.net.errors import NetError
from cortex.net.pool import Pool
from cortex.tasks import Tasks
from cortex.wire import bearer
from cortex.wire.fleet import Announcement

ANSWER_S = 5.0
FAREWELL_S = 1.0  # a gateway that is gone must not hold up the end
ANSWER_LIMIT_BYTES = 64 * 1024

log = logging.getLogger(__name__)


class Announcer:
    """`port` is where the neuron really listens."""

    def __init__(self, config: NeuronConfig, port: int) -> None:
        self._port = port
        self._changed = asyncio.Event()
        self._said: dict[str, str] = {}  # what each gateway answered last
        self.configure(config)

    def configure(self, config: NeuronConfig) -> None:
        """Other gateways, another name: from now on. Who is not told any more forgets this neuron by itself."""
        self._config = config
        self._tls = tls.trusting(config.join.tls_ca) if config.join.tls_ca else None
        self._changed.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Announcer]:
        """For the time of a block; on leaving it says goodbye."""
        tasks = Tasks("announcer")
        async with Pool(keepalive=False) as pool:
            tasks.start("join", self._run(pool))
            try:
                yield self
            finally:
                await tasks.aclose()
                await self._tell_all(pool, "leave", FAREWELL_S)

    async def _run(self, pool: Pool) -> None:
        while True:
            self._changed.clear()
            await self._tell_all(pool, "join", ANSWER_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.join.interval_secs):
                    await self._changed.wait()

    async def _tell_all(self, pool: Pool, verb: str, within_s: float) -> None:
        await asyncio.gather(*(self._tell(pool, gateway, verb, within_s) for gateway in self._config.join.gateways))

    async def _tell(self, pool: Pool, gateway: str, verb: str, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                said = await self._post(pool, Address.parse(gateway, self._tls), f"/neurons/{verb}")
        except (NetError, TimeoutError, ValueError) as error:
            said = str(error) or f"no answer within {within_s:g} s"
        if said != self._said.get(gateway):
            self._said[gateway] = said
            log.log(
                logging.INFO if said in ("joined", "configured", "left") else logging.WARNING, "%s: %s", gateway, said
            )

    async def _post(self, pool: Pool, address: Address, path: str) -> str:
        """What the gateway says to it."""
        headers = [("content-type", "application/json")]
        if self._config.token:
            headers.append(bearer.header(self._config.token.get_secret_value()))
        body = self._announcement().model_dump_json(exclude_none=True).encode()
        async with await pool.open(address, "POST", path, headers=headers, body=body) as exchange:
            return _word(exchange.status, await exchange.read_all(ANSWER_LIMIT_BYTES))

    def _announcement(self) -> Announcement:
        join = self._config.join
        return Announcement(
            name=join.name or platform.node() or "neuron",
            endpoint=join.endpoint,
            scheme="https" if self._config.tls_cert else "http",
            port=self._port,
            interval_secs=join.interval_secs,
        )


def _word(status: int, body: bytes) -> str:
    """A gateway's answer, in a word or a sentence. A proxy before it, or whatever listens in its place, may say anything."""
    try:
        said = orjson.loads(body)
        return str(said["status"]) if status == 200 else f"refused with {status}: {said['error']['message']}"
    except (ValueError, LookupError, TypeError):
        return f"something that is no gateway answered with status {status}"

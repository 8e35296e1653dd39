"""The neurons' clients by name, as the configuration has them now."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from cortex.config.gateway import GatewayConfig, GatewaySection, NeuronRef
from cortex.gateway.fleet.client import NeuronClient, NeuronError, new_pool
from cortex.net import tls


class NeuronGone(NeuronError, KeyError):  # noqa: N818  reads as what happened
    """A neuron that was removed while somebody was still busy with it."""

    def __str__(self) -> str:
        return f"neuron '{self.args[0]}' is no longer part of the fleet"


class Clients(Mapping[str, NeuronClient]):
    """`async with Clients(config) as clients`: they are closed together. Asking for one that is gone raises NeuronGone."""

    def __init__(self, config: GatewayConfig) -> None:
        """The configured ones. Raises TlsError when an authority cannot be read."""
        self._settings = config.gateway
        self._clients: dict[str, NeuronClient] = {}
        self._authorities: dict[Path, ssl.SSLContext] = {}
        self._pool = new_pool()
        self.check([config.gateway.neuron_tls_ca])
        for ref in config.trusted_neurons:
            self.add(ref)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    def __getitem__(self, name: str) -> NeuronClient:
        try:
            return self._clients[name]
        except KeyError:
            raise NeuronGone(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._clients)

    def __len__(self) -> int:
        return len(self._clients)

    def add(self, ref: NeuronRef, *, elsewhere: bool = True) -> NeuronClient:
        """`elsewhere`: it may have its models on other hosts. Raises TlsError when its authority cannot be read."""
        client = NeuronClient(
            ref,
            self._pool,
            timeout_s=self._settings.poll_timeout_secs,
            load_timeout_s=self._settings.load_timeout_secs,
            tls=self._trusted(ref.tls_ca),
            elsewhere=elsewhere,
        )
        self._clients[ref.name] = client
        return client

    def remove(self, name: str) -> None:
        del self._clients[name]

    def check(self, authorities: Iterable[Path | None]) -> None:
        """Raises TlsError when one's file cannot be used; nothing has changed then."""
        for authority in authorities:
            if authority:
                tls.trusting(authority)

    def configure(self, settings: GatewaySection) -> None:
        """New time-outs for everybody; an authority's file is read again, in case that it was renewed."""
        self._settings = settings
        for client in self._clients.values():
            client.timeout_s, client.load_timeout_s = settings.poll_timeout_secs, settings.load_timeout_secs
        for authority, trusted in self._authorities.items():
            with contextlib.suppress(tls.TlsError):  # nobody may need it any more
                tls.trust(trusted, authority)

    def _trusted(self, authority: Path | None) -> ssl.SSLContext | None:
        if authority is not None and authority not in self._authorities:
            self._authorities[authority] = tls.trusting(authority)
        return self._authorities[authority] if authority else None

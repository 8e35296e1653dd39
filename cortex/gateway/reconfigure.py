"""A new configuration comes into force by difference: what did not change is not touched, and a bad one changes nothing.

1. `check`: what it needs is tried; certificates and authorities are read.
2. `apply`: neurons that left, came or changed are removed, added or asked in the new way; the others' polling goes on.
3. Catalogue, aliases and limits hold from the next request on.
4. What only a restart can change is said, in the log and on `/status`.
"""

from __future__ import annotations

import logging
import ssl
from typing import Any

from sanic import Sanic

from cortex.config.catalogue import Catalogue
from cortex.config.difference import changed_keys
from cortex.config.gateway import GatewayConfig
from cortex.gateway.fleet.membership import Membership
from cortex.gateway.live import Live
from cortex.net import tls

AFTER_RESTART = frozenset(
    {
        "gateway.listen",
        "gateway.metrics_listen",
        "gateway.metrics_tls",
        "entitlements.database",
        "entitlements.reservation_ttl_secs",
        "responses.database",
    }
)
MIB = 1024 * 1024

log = logging.getLogger(__name__)


class Reconfiguration:
    """`showing` is the listener's context, if it has one."""

    def __init__(
        self, live: Live, membership: Membership, app: Sanic[Any, Any], showing: ssl.SSLContext | None
    ) -> None:
        self._live = live
        self._started_with = live.config
        self._membership = membership
        self._app = app
        self._showing = showing

    def check(self, config: GatewayConfig) -> None:
        """Raises TlsError for files that cannot be used; nothing has changed then."""
        if config.gateway.tls_cert and config.gateway.tls_key:
            tls.showing(config.gateway.tls_cert, config.gateway.tls_key)
        self._membership.check(config)

    async def apply(self, config: GatewayConfig, catalogue: Catalogue) -> None:
        """Take over what was checked."""
        live, settings = self._live, config.gateway
        changed = [key for key in changed_keys(live.config, config) if not key.startswith("neuron.")]
        if catalogue != live.catalogue:
            changed.append("the catalogue")
        # 2
        if self._showing and settings.tls_cert and settings.tls_key:
            tls.show(self._showing, settings.tls_cert, settings.tls_key)
        neurons = await self._membership.configure(config)
        # 3
        self._app.config.REQUEST_MAX_SIZE = settings.max_body_mb * MIB
        waiting = [key for key in changed_keys(self._started_with, config) if self._wants_restart(key, config)]
        live.replace(config, catalogue, restart_for=tuple(waiting))
        # 4
        log.info("gateway: configuration taken over: %s", ", ".join(changed + neurons) or "nothing changed")
        if new := [key for key in waiting if key in changed]:
            log.warning("gateway: this holds after a restart only: %s", ", ".join(new))

    def reject(self, why: str) -> None:
        """The files as they are now were not taken."""
        self._live.reject(why)

    def _wants_restart(self, key: str, config: GatewayConfig) -> bool:
        encrypted = self._showing is not None
        return key in AFTER_RESTART or (
            key == "gateway.tls_cert" and encrypted != (config.gateway.tls_cert is not None)
        )

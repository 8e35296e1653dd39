"""A new configuration comes into force by difference: what did not change is not touched, and a bad one changes nothing.

1. What it needs is tried first: certificates and authorities are read. TlsError ends it here.
2. Neurons that left, came or changed are removed, added or asked in the new way; the others' polling goes on.
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

AFTER_RESTART = frozenset({"gateway.listen", "gateway.metrics_listen"})
MIB = 1024 * 1024

log = logging.getLogger(__name__)


class Reconfiguration:
    """`apply` a configuration, or `reject` one that could not be read. `showing` is the listener's context, if it has one."""

    def __init__(
        self, live: Live, membership: Membership, app: Sanic[Any, Any], showing: ssl.SSLContext | None
    ) -> None:
        self._live = live
        self._membership = membership
        self._app = app
        self._showing = showing

    async def apply(self, config: GatewayConfig, catalogue: Catalogue) -> None:
        """Raises TlsError; then nothing has changed."""
        live, settings = self._live, config.gateway
        changed = [key for key in changed_keys(live.config, config) if not key.startswith("neuron.")]
        if catalogue != live.catalogue:
            changed.append("the catalogue")
        # 1
        self._membership.check(config)
        self._show(config)
        # 2
        neurons = await self._membership.configure(config)
        # 3
        self._app.config.REQUEST_MAX_SIZE = settings.max_body_mb * MIB
        restart_for = tuple(key for key in changed if self._wants_restart(key, config))
        live.replace(config, catalogue, restart_for=tuple(dict.fromkeys((*live.restart_for, *restart_for))))
        # 4
        log.info("configuration taken over: %s", ", ".join(changed + neurons) or "nothing changed")
        if restart_for:
            log.warning("this holds after a restart only: %s", ", ".join(restart_for))

    def reject(self, why: str) -> None:
        log.error("configuration not taken over, the one before stays in force: %s", why)
        self._live.reject(why)

    def _show(self, config: GatewayConfig) -> None:
        """Tried on the side first: a pair that does not fit must not leave half of it in the listener."""
        settings = config.gateway
        if self._showing and settings.tls_cert and settings.tls_key:
            tls.showing(settings.tls_cert, settings.tls_key)
            tls.show(self._showing, settings.tls_cert, settings.tls_key)

    def _wants_restart(self, key: str, config: GatewayConfig) -> bool:
        encrypted = self._showing is not None
        return key in AFTER_RESTART or (
            key == "gateway.tls_cert" and encrypted != (config.gateway.tls_cert is not None)
        )

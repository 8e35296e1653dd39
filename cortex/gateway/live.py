"""The configuration in force. Whoever acts on it reads it here in the moment of acting, and keeps no copy."""

from __future__ import annotations

import time

from cortex.config.catalogue import Catalogue
from cortex.config.gateway import GatewayConfig, GatewaySection
from cortex.gateway.keys.keyring import Keyring


class Live:
    """`replace` and `reject` are called by `Reconfiguration` only; the rest is for reading.

    loaded_at     Unix seconds at which it came into force
    error         why the files as they are now were not taken; None: they were
    restart_for   keys whose new values hold after a restart
    """

    def __init__(self, config: GatewayConfig, catalogue: Catalogue) -> None:
        self.config = config
        self.catalogue = catalogue
        self.keyring = Keyring(config.entitlements)
        self.loaded_at = time.time()
        self.error: str | None = None
        self.restart_for: tuple[str, ...] = ()

    @property
    def settings(self) -> GatewaySection:
        return self.config.gateway

    def replace(self, config: GatewayConfig, catalogue: Catalogue, *, restart_for: tuple[str, ...]) -> None:
        self.config, self.catalogue, self.restart_for = config, catalogue, restart_for
        self.keyring = Keyring(config.entitlements)
        self.loaded_at, self.error = time.time(), None

    def reject(self, why: str) -> None:
        self.error = why

    def told(self) -> dict[str, object]:
        """For `/status`."""
        return {"loaded_at": self.loaded_at, "error": self.error, "restart_for": list(self.restart_for)}

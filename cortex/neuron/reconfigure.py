"""A new configuration of a running neuron. Loaded models, and what is asked of them, are not touched.

Held at once: the token, whom it joins, how long draining takes. From a model's next load on: `[[default_models]]`, admission limits.
A renewed certificate is shown to new connections. Anything else wants a restart, which is said.
"""

from __future__ import annotations

import logging
import ssl

from cortex.config.difference import changed_keys
from cortex.config.neuron import NeuronConfig
from cortex.net import tls
from cortex.neuron.announce import Announcer
from cortex.neuron.api.guard import Guard
from cortex.neuron.models.registry import Registry

TAKEN_OVER = ("token", "token_file", "insecure", "default_models", "limits.drain_secs", "admission.max_", "join.")

log = logging.getLogger(__name__)


class Reconfiguration:
    """`showing` is the listener's context, if it has one."""

    def __init__(
        self,
        config: NeuronConfig,
        guard: Guard,
        registry: Registry,
        announcer: Announcer,
        showing: ssl.SSLContext | None,
    ) -> None:
        self._config = config
        self._guard = guard
        self._registry = registry
        self._announcer = announcer
        self._showing = showing

    def check(self, config: NeuronConfig) -> None:
        """Raises TlsError for files that cannot be used."""
        if config.tls_cert and config.tls_key:
            tls.showing(config.tls_cert, config.tls_key)
        if config.join.tls_ca:
            tls.trusting(config.join.tls_ca)

    async def apply(self, config: NeuronConfig) -> None:
        changed = changed_keys(self._config, config)
        self._config = config
        self._guard.token = config.token
        self._registry.configure(config)
        self._announcer.configure(config)
        if self._showing and config.tls_cert and config.tls_key:
            tls.show(self._showing, config.tls_cert, config.tls_key)
        log.info("neuron: configuration taken over: %s", ", ".join(changed) or "nothing changed")
        if restart_for := [key for key in changed if self._wants_restart(key, config)]:
            log.warning("neuron: this holds after a restart only: %s", ", ".join(restart_for))

    def _wants_restart(self, key: str, config: NeuronConfig) -> bool:
        if key in ("tls_cert", "tls_key"):
            return (self._showing is None) != (config.tls_cert is None)
        return not key.startswith(TAKEN_OVER)

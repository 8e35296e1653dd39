"""Whether this neuron gives and takes files: only to and from whoever shows its token, and as `[sync]` says."""

from __future__ import annotations

from cortex import errors
from cortex.config.neuron import SyncSection
from cortex.neuron.api.guard import Guard


class Policy:
    def __init__(self, sync: SyncSection, guard: Guard) -> None:
        self._sync = sync
        self._guard = guard

    @property
    def offers(self) -> bool:
        return self._sync.offer and self._guard.token is not None

    @property
    def accepts(self) -> bool:
        return self._sync.accept and self._guard.token is not None

    def check_offers(self) -> None:
        """Raises CortexError (403), which says what an operator would have to change."""
        if not self.offers:
            raise errors.forbidden("this neuron gives no files: that needs a token, and sync.offer = true")

    def check_accepts(self) -> None:
        if not self.accepts:
            raise errors.forbidden("this neuron takes no files: that needs a token, and sync.accept = true")

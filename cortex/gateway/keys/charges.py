"""A request is charged: what it can take is reserved before it is sent, what it took is settled when it is over.

Charged is what was delivered: usage as the engine counted it, also when the client left; where a stream was cut before
usage was told, its prompt as estimated and the tokens that were seen. What failed before its first token is free.
A question about a vocabulary is a request like any other, and takes no tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from cortex.gateway.keys.estimate import Estimate
from cortex.gateway.keys.keyring import Principal
from cortex.gateway.keys.ledger.desk import LedgerDesk
from cortex.gateway.metrics import Metrics
from cortex.gateway.proxy.observe import Totals

_NOTHING = Estimate(0, 0)


class Charges:
    def __init__(self, ledger: LedgerDesk, metrics: Metrics) -> None:
        self._ledger = ledger
        self._metrics = metrics

    @contextlib.asynccontextmanager
    async def charging(
        self, principal: Principal, estimate: Estimate | None, totals: Callable[[], Totals | None]
    ) -> AsyncIterator[None]:
        """Charge `principal` for what the block does; `totals` tells at its end. Raises CortexError 429 and 503, then the block is not entered."""
        estimate, name = estimate or _NOTHING, (principal.account_id, principal.key_id)
        reservation = (
            await self._ledger.reserve(name, principal.limits, estimate.total) if principal.limits.any else None
        )
        try:
            yield
        finally:
            prompt, completion = spent(totals(), estimate)
            self._metrics.spent(*name, prompt, completion)
            if reservation:
                self._ledger.settle(reservation, prompt + completion)

    @contextlib.asynccontextmanager
    async def asking(self, principal: Principal | None) -> AsyncIterator[None]:
        """Charge a question that no model answers (tokens of a text, a load): one request, no tokens. Raises as `charging`."""
        if principal is None:
            yield
            return
        async with self.charging(principal, None, lambda: None):
            yield


def spent(totals: Totals | None, estimate: Estimate) -> tuple[int, int]:
    """Tokens of prompt and answer that were delivered."""
    if totals is None or not totals.delivered:
        return 0, 0
    return totals.prompt_tokens or estimate.prompt, totals.completion_tokens

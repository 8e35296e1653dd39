"""Who asks, as a gateway tells its neurons: headers that it takes from no client.

Names of the first generation; the weight is ours. A neuron believes them, as it believes its gateway: whoever reaches it
by other ways needs its token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ACCOUNT_HEADER = "x-helexa-account-id"
KEY_HEADER = "x-helexa-key-id"
WEIGHT_HEADER = "x-cortex-weight"
PRINCIPAL_HEADERS = frozenset({ACCOUNT_HEADER, KEY_HEADER, WEIGHT_HEADER})
MAX_WEIGHT = 1000


@dataclass(frozen=True, slots=True)
class Caller:
    """A key that asks for a model's places; `weight` is its share of them. Nobody's requests are those of None."""

    account_id: str
    key_id: str
    weight: int = 1

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (ACCOUNT_HEADER, self.account_id), (KEY_HEADER, self.key_id), (WEIGHT_HEADER, str(self.weight))


def caller_of(headers: Mapping[str, str]) -> Caller | None:
    """`headers` by lower-case name. What makes no sense is not there."""
    account_id = headers.get(ACCOUNT_HEADER)
    if not account_id:
        return None
    weight = headers.get(WEIGHT_HEADER, "")
    known = weight.isascii() and weight.isdigit() and len(weight) <= 4
    return Caller(
        account_id, headers.get(KEY_HEADER) or account_id, min(max(int(weight), 1), MAX_WEIGHT) if known else 1
    )

"""One key's account, and what a request does to it. Pure: the ledger keeps accounts, this decides.

A request reserves what it can take at most, and settles with what it took: what is settled and what is held together
never pass the cap, however many ask at once. Times are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cortex import errors
from cortex.errors import CortexError

MINUTE_S = 60.0
SOON_S = 2.0  # until a request of the same key may have ended: nobody knows when it will


@dataclass(frozen=True, slots=True)
class Limits:
    """What one key may take; None is "as much as there is".

    tokens    in a window of `window_s` seconds, or ever where that is None
    requests  in a minute
    open      at once
    """

    tokens: int | None = None
    window_s: float | None = None
    requests: int | None = None
    open: int | None = None

    @property
    def any(self) -> bool:
        return self != UNLIMITED


UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class Account:
    """What is known of one key.

    used, held              tokens settled in this window; tokens of open reservations
    open                    open reservations
    requests                begun in this minute
    reserved, settled, released   since the account exists: reserved = settled + released + held
    """

    window_began: float = 0.0
    used: int = 0
    held: int = 0
    open: int = 0
    minute_began: float = 0.0
    requests: int = 0
    reserved: int = 0
    settled: int = 0
    released: int = 0


def reserve(account: Account, limits: Limits, tokens: int, now: float) -> Account:
    """The account with `tokens` held for one more request. Raises CortexError 429 with what stands against it."""
    account = _turned(account, limits, now)
    _check_requests(account, limits, now)
    _check_tokens(account, limits, tokens, now)
    return replace(
        account,
        requests=account.requests + 1,
        open=account.open + 1,
        held=account.held + tokens,
        reserved=account.reserved + tokens,
    )


def settle(account: Account, reserved: int, took: int) -> Account:
    """The account after a request that had reserved so many tokens and took so many, perhaps more or none."""
    return replace(
        account,
        open=account.open - 1,
        held=account.held - reserved,
        used=account.used + took,
        settled=account.settled + took,
        released=account.released + reserved - took,
    )


def _turned(account: Account, limits: Limits, now: float) -> Account:
    """With windows that have passed begun anew. What is held goes over into the new one."""
    if now - account.minute_began >= MINUTE_S:
        account = replace(account, minute_began=now, requests=0)
    if limits.window_s is not None and now - account.window_began >= limits.window_s:
        account = replace(account, window_began=now, used=0)
    return account


def _check_requests(account: Account, limits: Limits, now: float) -> None:
    if limits.open is not None and account.open >= limits.open:
        raise errors.over_capacity(f"this key has {account.open} requests open, its limit", retry_after=SOON_S)
    if limits.requests is not None and account.requests >= limits.requests:
        raise errors.over_capacity(
            f"this key may send {limits.requests} requests a minute",
            retry_after=account.minute_began + MINUTE_S - now,
        )


def _check_tokens(account: Account, limits: Limits, tokens: int, now: float) -> None:
    if limits.tokens is None or account.used + account.held + tokens <= limits.tokens:
        return
    left = max(0, limits.tokens - account.used)
    asked = f"this request may take {tokens} tokens, and of this key's {limits.tokens}"
    if tokens <= left:
        raise errors.over_capacity(f"{asked} its other requests hold {account.held} now", retry_after=SOON_S)
    if limits.window_s is None or tokens > limits.tokens:
        raise over_quota(
            f"{asked} {left} are left; a smaller max_tokens takes less" if left else f"{asked} none is left"
        )
    raise errors.over_capacity(
        f"{asked} in {limits.window_s:g} s {left} are left", retry_after=account.window_began + limits.window_s - now
    )


def over_quota(message: str) -> CortexError:
    """429 for which waiting does not help."""
    return CortexError(message, status=429, type="insufficient_quota", code="insufficient_quota")

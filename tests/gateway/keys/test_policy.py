"""One key's account: what stands against a request, and that a cap holds whatever happens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.errors import CortexError
from cortex.gateway.keys.policy import Account, Limits, reserve, settle

NOW = 1_000_000.0
ROLLING = Limits(tokens=100, window_s=60)
BALANCE = Limits(tokens=100)


def refusal(account: Account, limits: Limits, tokens: int, now: float = NOW) -> CortexError:
    with pytest.raises(CortexError) as refused:
        reserve(account, limits, tokens, now)
    return refused.value


@pytest.mark.parametrize(
    ("limits", "account", "tokens", "code", "retry_after"),
    [
        # A balance that is used up stays so.
        (BALANCE, Account(used=100), 1, "insufficient_quota", None),
        (BALANCE, Account(used=60), 41, "insufficient_quota", None),
        # What only other requests hold may come free.
        (BALANCE, Account(used=10, held=60, open=2), 60, "rate_limit_exceeded", 2),
        # A window that is used up begins anew.
        (ROLLING, Account(used=100, window_began=NOW - 20), 1, "rate_limit_exceeded", 40),
        # What no window holds is not worth waiting for.
        (ROLLING, Account(window_began=NOW), 101, "insufficient_quota", None),
        (Limits(requests=2), Account(requests=2, minute_began=NOW - 45), 0, "rate_limit_exceeded", 15),
        (Limits(open=3), Account(open=3), 0, "rate_limit_exceeded", 2),
    ],
)
def test_what_stands_against_a_request_is_told_with_when_it_may_pass(limits, account, tokens, code, retry_after):
    """429 with the first limit that is reached; Retry-After exactly where waiting helps."""
    error = refusal(account, limits, tokens)
    assert (error.status, error.code, error.retry_after) == (429, code, retry_after)
    assert str(limits.tokens or limits.requests or limits.open) in error.message


def test_a_cap_can_be_used_to_its_last_token():
    """Exactly the cap fits, and one more does not."""
    account = reserve(Account(), BALANCE, 100, NOW)
    assert (account.held, account.open) == (100, 1)
    assert refusal(settle(account, 100, 100), BALANCE, 1).code == "insufficient_quota"


def test_what_was_not_taken_can_be_used_again():
    """A settlement gives back the rest of its reservation."""
    account = settle(reserve(Account(), BALANCE, 100, NOW), 100, 30)
    assert (account.used, account.held, account.open, account.released) == (30, 0, 0, 70)
    assert reserve(account, BALANCE, 70, NOW).held == 70


def test_a_window_that_has_passed_begins_anew_and_open_requests_go_over_into_it():
    """After the window the cap is whole again, less what is still held."""
    account = Account(used=90, held=40, open=1, window_began=NOW - 60, reserved=130, settled=90)
    renewed = reserve(account, ROLLING, 60, NOW)
    assert (renewed.used, renewed.held, renewed.window_began) == (0, 100, NOW)
    assert refusal(account, ROLLING, 61).code == "rate_limit_exceeded"


def test_a_clock_that_was_set_back_gives_nothing_away():
    """A window that seems to begin in the future has not passed."""
    assert refusal(Account(used=100, window_began=NOW + 500), ROLLING, 1).code == "rate_limit_exceeded"


@given(
    cap=st.integers(0, 200),
    window=st.one_of(st.none(), st.floats(1, 100)),
    steps=st.lists(st.tuples(st.integers(0, 120), st.floats(0, 50), st.integers(0, 3), st.floats(0, 1)), max_size=60),
)
def test_no_order_of_events_passes_the_cap(cap, window, steps):
    """Reservations and settlements in any order: used and held never pass the cap, and the sums always balance."""
    limits, account, now, held = Limits(tokens=cap, window_s=window, open=5), Account(), NOW, []
    for tokens, seconds, ends, share in steps:
        now += seconds
        try:
            account = reserve(account, limits, tokens, now)
            held.append(tokens)
        except CortexError:
            pass
        for _ in range(min(ends, len(held))):
            reserved = held.pop(0)
            account = settle(account, reserved, int(reserved * share))
        assert account.used + account.held <= cap
        assert (account.held, account.open) == (sum(held), len(held))
        assert account.open <= 5
        assert account.reserved == account.settled + account.released + account.held


@given(took=st.integers(0, 500))
def test_an_estimate_that_was_too_small_is_charged_in_full(took):
    """More than was reserved counts as it was; the sums balance with a negative release."""
    account = settle(reserve(Account(), BALANCE, 50, NOW), 50, took)
    assert (account.used, account.settled, account.released) == (took, took, 50 - took)

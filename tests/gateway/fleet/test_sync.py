"""How large the next piece of a copy is, and how fast it may go."""

from __future__ import annotations

import pytest

from cortex.config.rate import parse_rate
from cortex.gateway.fleet.sync import LEAST_PIECE, next_size

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "took_s", "expected"),
    [
        (MIB, 0.1, 2 * MIB),
        (4 * MIB, 0.1, 4 * MIB),
        (MIB, 1.0, MIB),
        (MIB, 3.0, MIB // 2),
        (LEAST_PIECE, 9.0, LEAST_PIECE),
    ],
)
def test_a_piece_takes_about_a_second(size: int, took_s: float, expected: int) -> None:
    """Pieces grow where they are quick and shrink on a slow line, between the least and the largest that is taken."""
    assert next_size(size, took_s, 4 * MIB) == expected


@pytest.mark.parametrize(
    ("said", "rate"),
    [
        ("50MB/s", 50_000_000),
        ("50MB", 50_000_000),
        ("1.5 GiB/s", 3 * 2**29),
        ("64KiB/s", 65536),
        ("100kB/s", 100_000),
        ("7B/s", 7),
    ],
)
def test_a_rate_is_bytes_a_second(said: str, rate: int) -> None:
    """Decimal and binary units, with and without the second."""
    assert parse_rate(said) == rate


@pytest.mark.parametrize("said", ["fast", "50", "50Mbit/s", "-1MB/s", "0MB/s", "", 50, None, "9" * 400 + "MB/s"])
def test_what_is_no_rate_says_what_would_be_right(said: object) -> None:
    """The message has an example."""
    with pytest.raises(ValueError, match="50MB/s"):
        parse_rate(said)

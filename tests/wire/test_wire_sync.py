"""Which part of a file is asked for, and which one comes: headers that anybody may have written."""

from __future__ import annotations

import pytest

from cortex.wire.sync import parse_content_range, parse_range


def test_a_range_is_its_first_and_last_byte():
    """Both are told, in their order."""
    assert parse_range("bytes=0-99") == (0, 99)
    assert parse_content_range("bytes 0-99/1000") == (0, 99, 1000)


@pytest.mark.parametrize("number", ["", "-1", "9" * 5000, "\u0661", "0x1", "1_0"])
def test_what_is_no_number_of_bytes_is_no_range(number: str):
    """Nothing raises, and nothing is guessed."""
    assert parse_range(f"bytes=0-{number}") is None
    assert parse_content_range(f"bytes 0-{number}/1000") is None
    assert parse_content_range(f"bytes 0-9/{number}") is None


@pytest.mark.parametrize("header", [None, "bytes=9-0", "bytes=0-9, 20-29", "items=0-9"])
def test_another_form_is_no_range(header: str | None):
    """Nor is one that ends before it begins."""
    assert parse_range(header) is None

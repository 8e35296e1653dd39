from __future__ import annotations

import pytest
from benchmarks.ports import free_port


@pytest.fixture
def unused_port() -> int:
    """A loopback port that nobody listens on just now."""
    return free_port()

"""What the tests of packages share."""

import pytest
from helpers import containers


@pytest.fixture(scope="session")
def empty_debian(tmp_path_factory):
    """The root of a host that boots systemd and has nothing else; containers are copies of it."""
    return containers.debian(tmp_path_factory.mktemp("debian") / "root")

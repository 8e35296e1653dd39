"""Where a neuron says that a model is served, and where the gateway goes."""

import pytest

from cortex.gateway.fleet.addresses import inference_address
from cortex.net.address import Address

BEAST = Address("beast", 13131)


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ("http://localhost:13131", "http://beast:13131"),
        ("http://localhost:13131/", "http://beast:13131"),
        ("http://127.0.0.1:9000", "http://beast:9000"),
        ("http://127.8.8.8:9000", "http://beast:9000"),
        ("http://0.0.0.0:13131/", "http://beast:13131"),
        ("http://[::1]:13131", "http://beast:13131"),
        ("http://[::]:13131", "http://beast:13131"),
        ("http://10.0.0.9:8080/", "http://10.0.0.9:8080"),
        ("http://localhost.example:80", "http://localhost.example:80"),
    ],
)
def test_a_loopback_url_is_rewritten_to_the_host_that_the_gateway_knows(reported, expected):
    """The port is kept, a trailing slash is dropped, other hosts are believed."""
    assert str(inference_address(reported, BEAST)) == expected


@pytest.mark.parametrize(
    "reported", ["", "None", "https://beast:1", "http+unix:///run/x.sock", "http://beast:1/v1", "file:///etc"]
)
def test_what_is_no_base_url_is_refused(reported):
    """Nothing but http to a host and port: above all no socket on the gateway's own host."""
    with pytest.raises(ValueError, match=r"."):
        inference_address(reported, BEAST)

"""Which URLs, hosts and addresses may be asked for an image."""

import pytest

from cortex.config.images import ImagesSection
from cortex.errors import CortexError
from cortex.gateway.images.access import check_addresses, is_public, place_of

ANY = ImagesSection(allow_urls=True)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses(address):
    """What the whole internet can reach."""
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.0.1",
        "198.18.0.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "64:ff9b:1::a00:1",
        "2002:a00:1::",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
        "2002:7f00:1::",
        "2001:0:1234::1",
        "2001:db8::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%lo",
        "fec0::1",
        "ff02::1",
    ],
)
def test_addresses_that_are_not_public(address):
    """Private, shared, loopback, link-local, multicast, reserved, and those that hide one of these in IPv6."""
    assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://example.org/a.png", ("example.org", 80)),
        ("https://EXAMPLE.org:8443/a.png?b", ("example.org", 8443)),
        ("https://[2606:4700::1111]/", ("2606:4700::1111", 443)),
    ],
)
def test_a_url_has_a_place(url, place):
    """Host and port; the scheme's own without one."""
    assert place_of(url, ANY) == place


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/a",
        "file:///etc/passwd",
        "gopher://example.org",
        "http://",
        "http:///a",
        "http://example.org:99999/",
        "http://example.org:0/",
        "http://[::1/",
        "http://user:secret@example.org/",
        "//example.org/a",
    ],
)
def test_a_url_that_is_not_fetched(url):
    """400 without the password that it may carry."""
    with pytest.raises(CortexError) as refused:
        place_of(url, ANY)
    assert (refused.value.status, refused.value.code) == (400, "invalid_image_url")
    assert "secret" not in refused.value.message


def test_the_operator_may_name_the_hosts():
    """Then no other is asked; those with private addresses are named apart."""
    settings = ImagesSection(allow_urls=True, hosts=("*.example.org",), private_hosts=("images.lan",))
    for host in ("a.example.org", "IMAGES.lan"):
        assert place_of(f"http://{host}/", settings)[1] == 80
    for host in ("example.org", "example.com", "a.example.org.evil.com"):
        with pytest.raises(CortexError, match=r"\[images\] hosts"):
            place_of(f"http://{host}/", settings)
    check_addresses("http://images.lan/", "images.lan", ["10.0.0.1"], settings)
    for addresses in (["10.0.0.1"], ["8.8.8.8", "127.0.0.1"]):
        with pytest.raises(CortexError, match="public address"):
            check_addresses("http://a.example.org/", "a.example.org", addresses, settings)


@pytest.mark.parametrize("host", ["", "http://x", "a b", "x:80", "user@x", "x/y"])
def test_a_host_of_the_configuration_is_a_host(host):
    """A URL or a port there is a mistake that is named."""
    with pytest.raises(ValueError, match="is no host"):
        ImagesSection(hosts=(host,))

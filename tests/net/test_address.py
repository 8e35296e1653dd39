import pytest

from cortex.net.address import Address


@pytest.mark.parametrize(
    ("url", "address", "authority"),
    [
        ("http://127.0.0.1:13131", Address("127.0.0.1", 13131), "127.0.0.1:13131"),
        ("http://beast:1/", Address("beast", 1), "beast:1"),
        ("HTTP://Beast", Address("beast", 80), "beast:80"),
        ("http://[::1]:80", Address("::1", 80), "[::1]:80"),
        ("http+unix:///run/x.sock", Address("localhost", 0, "/run/x.sock"), "localhost"),
        ("http+unix:///run/a%20b.sock", Address("localhost", 0, "/run/a b.sock"), "localhost"),
    ],
)
def test_a_url_is_read(url: str, address: Address, authority: str):
    """The forms that name an upstream, and the Host header each gets."""
    assert Address.parse(url) == address
    assert address.authority == authority


@pytest.mark.parametrize("url", ["http://127.0.0.1:13131", "http://[::1]:80", "http+unix:///run/x.sock"])
def test_an_address_is_shown_as_its_url(url: str):
    """What is logged can be pasted into a configuration."""
    assert str(Address.parse(url)) == url


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("beast:1", "use 'http://host:port'"),
        ("ftp://beast", "use 'http://host:port'"),
        ("", "use 'http://host:port'"),
        ("http:///v1", "names no host"),
        ("http://beast:1/v1", "without a path"),
        ("http://beast:1?x=1", "without a path"),
        ("http://beast:99999", "Port out of range"),
        ("http://beast:0", "port 0"),
        ("http://be ast:1", "names no host"),
        ("http://[::1", "Invalid IPv6"),
        ("http+unix://run/x.sock", "absolute path"),
        ("http+unix:///", "absolute path"),
    ],
)
def test_what_is_no_address_is_refused_by_name(url: str, complaint: str):
    """The error says what is wrong with which URL."""
    with pytest.raises(ValueError, match=complaint):
        Address.parse(url)


def test_a_password_in_a_url_is_not_repeated():
    """The error for a URL with credentials does not carry them into a log."""
    with pytest.raises(ValueError, match="user or password") as caught:
        Address.parse("http://me:hunter2@beast:1")
    assert "hunter2" not in str(caught.value)

import pytest

from cortex.net.address import Address
from cortex.net.headers import forwardable_request_headers, forwardable_response_headers, request_head

HERE = Address("127.0.0.1", 1)


def test_a_request_keeps_what_is_end_to_end():
    """Fields about the client's own connection stop here, its meaning goes on."""
    headers = [
        ("Host", "cortex"),
        ("Connection", "keep-alive, X-Private"),
        ("X-Private", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authorization", "Basic x"),
        ("TE", "trailers"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "3"),
        ("Expect", "100-continue"),
        ("Upgrade", "h2c"),
        ("Content-Type", "application/json"),
        ("Accept", "a"),
        ("Accept", "b"),
    ]
    assert forwardable_request_headers(headers) == [
        ("content-type", "application/json"),
        ("accept", "a"),
        ("accept", "b"),
    ]


def test_an_answer_keeps_its_length():
    """A body that passes verbatim keeps the length that lets the client see a truncation."""
    headers = [("connection", "close"), ("transfer-encoding", "chunked"), ("content-length", "3"), ("x", "y")]
    assert forwardable_response_headers(headers) == [("content-length", "3"), ("x", "y")]


@pytest.mark.parametrize(
    ("method", "length", "keepalive", "head"),
    [
        ("GET", 0, True, b"GET /a HTTP/1.1\r\nhost: 127.0.0.1:1\r\nx: \xc3\xa4\r\n\r\n"),
        ("POST", 0, True, b"POST /a HTTP/1.1\r\nhost: 127.0.0.1:1\r\nx: \xc3\xa4\r\ncontent-length: 0\r\n\r\n"),
        ("DELETE", 7, True, b"DELETE /a HTTP/1.1\r\nhost: 127.0.0.1:1\r\nx: \xc3\xa4\r\ncontent-length: 7\r\n\r\n"),
        ("GET", 0, False, b"GET /a HTTP/1.1\r\nhost: 127.0.0.1:1\r\nx: \xc3\xa4\r\nconnection: close\r\n\r\n"),
    ],
)
def test_a_head_says_what_follows(method: str, length: int, head: bytes, *, keepalive: bool):
    """Host, length and connection are written by the pool; values pass as bytes."""
    assert request_head(HERE, method, "/a", [("x", "ä")], length=length, keepalive=keepalive) == head


@pytest.mark.parametrize(
    ("method", "path", "header", "complaint"),
    [
        ("GET", "/", ("x", "secret\r\nhost: evil"), "header 'x' holds a line break"),
        ("GET", "/", ("x", "secret\n"), "line break"),
        ("GET", "/", ("x", "secret\0"), "NUL"),
        ("GET", "/", ("x\r\ny", "secret"), "not the name of a header"),
        ("GET", "/", ("x ", "secret"), "not the name of a header"),
        ("GET", "/", ("", "secret"), "not the name of a header"),
        ("GET", "/", ("Content-Length", "1"), "set by the pool"),
        ("GET", "/", ("transfer-encoding", "chunked"), "set by the pool"),
        ("GET", "/ HTTP/1.1\r\nhost: evil\r\n\r\nGET /", ("x", "y"), "percent-encoded"),
        ("GET", "/a b", ("x", "y"), "percent-encoded"),
        ("GET", "http://evil/", ("x", "y"), "must begin with '/'"),
        ("GET /admin", "/", ("x", "y"), "not an HTTP method"),
    ],
)
def test_what_could_become_a_second_request_is_refused(method: str, path: str, header: tuple[str, str], complaint: str):
    """No caller can smuggle a header or a request, and the error does not repeat a value."""
    with pytest.raises(ValueError, match=complaint) as caught:
        request_head(HERE, method, path, [header], length=0, keepalive=True)
    assert "secret" not in str(caught.value)

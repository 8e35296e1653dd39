import pytest

from cortex.net.address import Address
from cortex.net.headers import (
    forwardable_request_headers,
    forwardable_response_headers,
    request_head,
    response_head,
    without_breaks,
)

HERE = Address("127.0.0.1", 1)


def test_a_request_keeps_what_is_end_to_end():
    """Fields about the client's own connection stop here, its meaning goes on."""
    headers = [
        ("host", "cortex"),
        ("connection", "keep-alive, X-Private"),
        ("connection", "x-other"),
        ("x-other", "1"),
        ("x-private", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "Basic x"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("content-length", "3"),
        ("expect", "100-continue"),
        ("upgrade", "h2c"),
        ("content-type", "application/json"),
        ("accept", "a"),
        ("accept", "b"),
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


@pytest.mark.parametrize("value", ["a\r\nset-cookie: b", "a\n", "a\r", "a\0"])
def test_an_answers_own_values_hold_no_second_header(value: str):
    """Whatever made its way into a value, the client's connection shows one header."""
    with pytest.raises(ValueError, match="header 'x' holds a line break") as caught:
        without_breaks([("x", value)])
    assert "cookie" not in str(caught.value)


def test_an_answers_head_is_written_with_what_becomes_of_the_connection():
    """Any status has a line; values pass as bytes."""
    assert response_head(200, [("x", "ä\udcff")], keepalive=True) == (
        b"HTTP/1.1 200 OK\r\nx: \xc3\xa4\xff\r\nconnection: keep-alive\r\n\r\n"
    )
    assert response_head(599, [], keepalive=False) == b"HTTP/1.1 599 \r\nconnection: close\r\n\r\n"

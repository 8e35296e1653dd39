"""The head of a request: what it says is read, and what two readers could read differently is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.net.errors import ProtocolError
from cortex.net.request import RequestHead


def test_a_head_is_read_whole():
    """Names are lower-cased, values keep their bytes without the blanks around them, duplicates stay."""
    head = RequestHead(
        b"POST /a?b=%20c HTTP/1.1\r\nHost: h:1\r\nX-Name:\t \xc3\xa4\xff \r\nx-name:\r\nContent-Length: 12\r\n"
    )
    assert (head.method, head.target, head.version) == ("POST", b"/a?b=%20c", "1.1")
    assert head.headers == [("host", "h:1"), ("x-name", "ä\udcff"), ("x-name", ""), ("content-length", "12")]
    assert (head.length, head.chunked, head.keepalive, head.expect) == (12, False, True, None)


@pytest.mark.parametrize(
    ("line", "keepalive"),
    [
        (b"GET / HTTP/1.1\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: Close\r\n", False),
        (b"GET / HTTP/1.1\r\nConnection: TE, close\r\n", False),
        (b"GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\n", True),
        (b"GET / HTTP/1.0\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n", True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n", False),
    ],
)
def test_whether_another_request_may_follow(line: bytes, *, keepalive: bool):
    """HTTP/1.1 keeps a connection unless told otherwise, HTTP/1.0 the other way round."""
    assert RequestHead(line).keepalive is keepalive


@pytest.mark.parametrize(
    ("fields", "length", "chunked", "expect"),
    [
        (b"", 0, False, None),
        (b"content-length: 0\r\n", 0, False, None),
        (b"Transfer-Encoding: Chunked\r\n", 0, True, None),
        (b"content-length: 5\r\nExpect: 100-Continue\r\n", 5, False, "100-continue"),
        (b"Expect: 100-continue\r\n", 0, False, None),
    ],
)
def test_where_a_body_ends(fields: bytes, length: int, expect: str | None, *, chunked: bool):
    """By its length or its last chunk; Expect says something only where a body follows."""
    head = RequestHead(b"POST / HTTP/1.1\r\n" + fields)
    assert (head.length, head.chunked, head.expect) == (length, chunked, expect)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\r\n",
        b"GET /\r\n",
        b"GET / HTTP/2.0\r\n",
        b"GET / HTTP/1.2\r\n",
        b"GET  / HTTP/1.1\r\n",
        b"GET /a b HTTP/1.1\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\n",
        b"G\tET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\nhost: x\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n",
        b"GET / HTTP/1.1\r\nname : value\r\n",
        b"GET / HTTP/1.1\r\n: value\r\n",
        b"GET / HTTP/1.1\r\nname: value\r\n folded\r\n",
        b"GET / HTTP/1.1\r\nname: a\rb\r\n",
        b"GET / HTTP/1.1\r\nname: a\nb: c\r\n",
        b"GET / HTTP/1.1\r\nname: a\0\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: identity\r\n",
        b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: +1\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1_0\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 0x1\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: \xd9\xa1\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n",
        b"POST / HTTP/1.1\r\ncontent-length:\r\n",
    ],
)
def test_what_is_ambiguous_is_no_request(head: bytes):
    """Nothing that another reader on the way might have understood differently gets past."""
    with pytest.raises(ProtocolError):
        RequestHead(head)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes):
    """Hostile bytes give an error of ours and no other."""
    for head in (data, b"GET / HTTP/1.1\r\n" + data + b"\r\n"):
        try:
            read = RequestHead(head)
        except ProtocolError:
            continue
        assert len(read.headers) == head.count(b"\r\n") - 1

import pytest

from cortex.net.errors import ProtocolError
from cortex.net.response import HEAD_LIMIT_BYTES, Response

CHUNKED = (
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Raw: \xff\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"5;name=value\r\nhello\r\nb\r\n, big world\r\n0\r\nX-Trailer: late\r\n\r\n"
)
SIZED = b"HTTP/1.1 404 Not Found\r\nContent-Length: 16\r\n\r\nhello, big world"
HEADERS = [("content-type", "text/plain"), ("x-raw", "\udcff"), ("transfer-encoding", "Chunked")]


def parsed(*pieces: bytes, method: str = "GET") -> Response:
    answer = Response(method)
    for piece in pieces:
        answer.feed(piece)
    return answer


def test_an_answer_may_be_cut_anywhere():
    """Whatever the network makes of an answer, the same comes out, and it is never complete before its last byte."""
    for cut in range(1, len(CHUNKED)):
        answer = parsed(CHUNKED[:cut])
        assert not answer.complete
        answer.feed(CHUNKED[cut:])
        assert (answer.status, answer.headers, answer.complete, answer.keepalive) == (200, HEADERS, True, True)
        assert answer.take() == b"hello, big world"


def test_an_answer_may_come_byte_by_byte():
    """The extreme of the same."""
    answer = parsed(*(CHUNKED[i : i + 1] for i in range(len(CHUNKED))))
    assert (answer.headers, answer.take(), answer.complete) == (HEADERS, b"hello, big world", True)


@pytest.mark.parametrize("whole", [CHUNKED, SIZED])
def test_an_answer_cut_short_is_never_whole(whole: bytes):
    """With a length or chunks, the connection's end before theirs completes nothing."""
    for cut in range(1, len(whole)):
        answer = parsed(whole[:cut])
        answer.eof()
        assert not answer.complete


def test_without_length_the_body_ends_with_the_connection():
    """HTTP/1.0 servers do that; such a connection serves nothing else."""
    answer = parsed(b"HTTP/1.0 200 OK\r\n\r\nsome")
    assert not answer.complete
    answer.eof()
    assert (answer.complete, answer.keepalive, answer.take()) == (True, False, b"some")


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 16\r\n\r\n"),
    ],
)
def test_some_answers_have_no_body(method: str, head: bytes):
    """They are whole with their head, whatever length it tells."""
    answer = parsed(head, method=method)
    assert (answer.complete, answer.take()) == (True, b"")


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_the_upstream_decides_about_keepalive(head: bytes, *, kept: bool):
    """Version and Connection header say whether another request may follow."""
    assert parsed(head).keepalive is kept


@pytest.mark.parametrize("junk", [b"junk", SIZED])
def test_bytes_after_the_end_end_the_keepalive(junk: bytes):
    """The answer stands; what nobody asked for must not become the next one's beginning."""
    together, apart = parsed(SIZED + junk), parsed(SIZED, junk)
    for answer in (together, apart):
        assert (answer.complete, answer.keepalive, answer.take()) == (True, False, b"hello, big world")


@pytest.mark.parametrize(
    ("garbage", "complaint"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not an HTTP/1.1 answer"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "not an HTTP/1.1 answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "not an HTTP/1.1 answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n", "not an HTTP/1.1 answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "not an HTTP/1.1 answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "'gzip' was not asked for"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "not an HTTP/1.1 answer"),
    ],
)
def test_garbage_is_named(garbage: bytes, complaint: str):
    """What is not HTTP, and what two readers could read in two ways, is refused."""
    with pytest.raises(ProtocolError, match=complaint):
        parsed(garbage)


LARGE = b"x" * HEAD_LIMIT_BYTES


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\nX: " + LARGE],
        [b"HTTP/1.1 200 OK\r\nX: " + LARGE + b"\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nX: " + LARGE[:40000], LARGE[:40000]],
        [b"HTTP/1.1 100 Continue\r\nX: " + LARGE[:40000] + b"\r\n\r\n"] * 2,
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;x=" + LARGE],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nX: " + LARGE],
    ],
    ids=["open", "whole", "in two", "interim", "chunk extension", "trailer"],
)
def test_a_head_has_a_limit(pieces: list[bytes]):
    """No upstream can make us collect headers, trailers or chunk extensions without end."""
    with pytest.raises(ProtocolError, match="larger than 65536 bytes"):
        parsed(*pieces)

"""One answer as it is parsed, without I/O: bytes in, a status, headers and pieces of a body out.

httptools (llhttp) reads the syntax strictly. What it leaves to its user is here: answers to HEAD, interim answers,
where a body without a length ends, and limits.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from cortex.net.errors import ProtocolError

HEAD_LIMIT_BYTES = 64 * 1024  # status line and headers; trailers and chunk extensions as well


class Response:
    """The answer to one request.

    head_done   status and headers are final
    complete    the body is whole, by its length, its last chunk, or the end of the connection where neither was told
    keepalive   another request may follow on this connection
    buffered    bytes of the body that wait for `take()`
    heard       anything came at all
    """

    __slots__ = (
        "_bodiless",
        "_head_bytes",
        "_parser",
        "_pieces",
        "_unproductive",
        "buffered",
        "complete",
        "head_done",
        "headers",
        "heard",
        "keepalive",
        "on_body",
        "status",
    )

    # What the parser could tell as well. It looks for each, and looking for what is not there at all is slow.
    on_status = on_chunk_header = on_chunk_complete = None

    def __init__(self, method: str) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.head_done = self.complete = self.keepalive = self.heard = False
        self.buffered = 0
        self._bodiless = method == "HEAD"
        self._pieces: list[bytes] = []
        self.on_body = _ignore if self._bodiless else self._pieces.append  # by the parser, for every chunk
        self._head_bytes = self._unproductive = 0
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    def header(self, name: str) -> str | None:
        """The first value of a header, by its lower-cased name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def take(self) -> bytes:
        """What waits of the body, as one piece; empty when nothing does."""
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.buffered = 0
        return data

    def feed(self, data: bytes) -> None:
        """Parse what came. ProtocolError when it is no answer; bytes beyond a whole answer end its keep-alive only."""
        if self._parser is None:
            return
        self.heard = True
        self._unproductive += len(data)
        known = len(self._pieces)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.keepalive = False
            if not self.complete:
                raise _explained(error) from error
        finally:
            if len(self._pieces) > known:
                self._unproductive = 0
                self.buffered += sum(map(len, self._pieces[known:]))
        if self._unproductive > HEAD_LIMIT_BYTES and not self.complete:
            raise _too_large()

    def eof(self) -> None:
        """The upstream closed. That is the regular end of a body for which neither length nor chunks were told."""
        self.keepalive = False
        if self.head_done and self.header("content-length") is None and self.header("transfer-encoding") is None:
            self.complete = True

    def close(self) -> None:
        """Let go of the parser: the two refer to one another, and no garbage collector should have to find that."""
        self._parser = None

    # ---- called by the parser

    def on_message_begin(self) -> None:
        if self.complete:
            raise ProtocolError("bytes after the end of the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_LIMIT_BYTES:
            raise _too_large()
        if not self.head_done:  # else it is a trailer
            self.headers.append((name.lower().decode("ascii"), value.decode("utf-8", "surrogateescape")))

    def on_headers_complete(self) -> None:
        assert self._parser is not None  # noqa: S101  it is calling
        self._unproductive = 0
        self.status = self._parser.get_status_code()
        if 100 <= self.status < 200:
            return
        coding = self.header("transfer-encoding")
        if coding is not None and coding.lower() != "chunked":
            raise ProtocolError(f"transfer-encoding '{coding}' was not asked for")
        self.head_done = True
        self.complete = self._bodiless
        self.keepalive = not self._bodiless and self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        if self.head_done:
            self.complete = True
        else:  # an interim answer: the real one follows
            self.headers.clear()


def _ignore(_data: bytes) -> None:
    """What an answer to HEAD has for a body is none."""


def _too_large() -> ProtocolError:
    return ProtocolError(f"the head of the answer is larger than {HEAD_LIMIT_BYTES} bytes")


def _explained(error: Exception) -> ProtocolError:
    """A callback's own ProtocolError comes wrapped; the parser's complaint is a sentence."""
    inner = error.__context__
    return inner if isinstance(inner, ProtocolError) else ProtocolError(f"not an HTTP/1.1 answer: {error}")

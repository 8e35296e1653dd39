"""The server's side of HTTP/1.1, byte for byte: raw requests on a socket, and what is answered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import uvloop
from helpers.waiting import until
from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.config.listen import Listen
from cortex.tasks import running

Answer = tuple[int, dict[str, str], bytes]
MAX_BODY = 100_000
PIECES = [b"data: 1\n\n", b"data: 2\n\n"]


async def _echo(request: Request) -> HTTPResponse:
    return web.json({"method": request.method, "args": request.args, "body": request.body.decode("latin-1")})


async def _stream(request: Request) -> HTTPResponse | None:
    """`?length` tells the body's length, `?status` another status, `?broken` leaves its answer half done."""
    sink = web.SanicSink(request)
    headers = [("content-type", "text/event-stream"), ("x-request-id", "the upstream's")]
    if length := request.args.get("length"):
        headers.append(("content-length", length))
    await sink.start(int(request.args.get("status", "200")), headers)
    for piece in PIECES:
        await sink.send(piece)
    if "broken" not in request.args:
        await sink.finish()
    return None


async def _refuse(_request: Request) -> HTTPResponse:
    raise errors.unavailable("away", retry_after=1)


class Client:
    """A connection on which bytes are sent as they are, and answers read as a client reads them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        line, *fields = (await self._reader.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n").split("\r\n")
        return int(line.split(" ")[1]), dict(field.split(": ", 1) for field in fields)

    async def answer(self, *, bodiless: bool = False) -> Answer:
        status, headers = await self.head()
        if bodiless:
            return status, headers, b""
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, await self._chunks()
        if "content-length" in headers:
            return status, headers, await self._reader.readexactly(int(headers["content-length"]))
        return status, headers, await self._reader.read()

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += await self._reader.readexactly(size)
            assert await self._reader.readexactly(2) == b"\r\n"
        assert await self._reader.readexactly(2) == b"\r\n"
        return body

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        with contextlib.suppress(ConnectionResetError):
            return await self._reader.read()
        return b"reset"

    def leave(self) -> None:
        self._writer.close()


@contextlib.asynccontextmanager
async def _client(settings: dict[str, Any]) -> AsyncIterator[Client]:
    app = web.new_app("test", max_body_bytes=MAX_BODY)
    app.config.update(settings)
    for method, path, handler in (
        ("POST", "/echo", _echo),
        ("GET", "/echo", _echo),
        ("HEAD", "/echo", _echo),
        ("POST", "/stream", _stream),
        ("HEAD", "/stream", _stream),
        ("POST", "/refuse", _refuse),
    ):
        web.route(app, method, path, handler)
    async with web.listening(app, Listen("127.0.0.1", 0)) as bound:
        client = Client(*await asyncio.open_connection("127.0.0.1", bound.port))
        try:
            yield client
        finally:
            client.leave()


def _run(scenario: Callable[[Client], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def connected() -> None:
        async with asyncio.timeout(10), _client(settings) as client:
            await scenario(client)

    uvloop.run(connected())


def _post(path: str, body: bytes, *fields: str, version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "host: x", f"content-length: {len(body)}", *fields]
    return "\r\n".join([*lines, "\r\n"]).encode() + body


def test_pipelined_requests_are_answered_in_order_on_one_connection():
    """What comes behind a request waits for its turn, whole or cut anywhere."""

    async def scenario(client: Client) -> None:
        requests = b"".join(_post(f"/echo?n={n}", b"b%d" % n) for n in range(3)) + _post("/stream", b"")
        await client.send(requests[:250], requests[250:])
        for n in range(3):
            status, headers, body = await client.answer()
            assert (status, headers["connection"]) == (200, "keep-alive")
            assert body == b'{"method":"POST","args":{"n":["%d"]},"body":"b%d"}' % (n, n)
        assert (await client.answer())[2] == b"".join(PIECES)
        await client.send(_post("/echo", b"after a stream"))
        assert b"after a stream" in (await client.answer())[2]

    _run(scenario)


def test_a_request_that_comes_byte_by_byte_is_one():
    """Neither head nor body has to come in one piece."""

    async def scenario(client: Client) -> None:
        for byte in _post("/echo", b"slow body"):
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert b'"body":"slow body"' in (await client.answer())[2]

    _run(scenario)


def test_a_body_in_chunks_is_read():
    """Also one that came together with its head, and with another request behind it."""

    async def scenario(client: Client) -> None:
        head = b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        await client.send(head + b"3\r\nabc\r\n5;x=y\r\ndefgh\r\n0\r\n\r\n" + _post("/echo", b"next"))
        assert b'"body":"abcdefgh"' in (await client.answer())[2]
        assert b'"body":"next"' in (await client.answer())[2]

    _run(scenario)


def test_a_client_that_expects_100_is_told_to_go_on():
    """Before its body is read; and not where the body has come unasked."""

    async def scenario(client: Client) -> None:
        request = _post("/echo", b"body", "Expect: 100-continue")
        await client.send(request[:-4])
        assert await client.head() == (100, {})
        await client.send(request[-4:])
        assert b'"body":"body"' in (await client.answer())[2]
        await client.send(request)
        assert (await client.answer())[0] == 200

    _run(scenario)


def test_another_expectation_fails():
    """417, in our envelope, and the connection ends: its body may come or not."""

    async def scenario(client: Client) -> None:
        await client.send(_post("/echo", b"body", "Expect: a miracle")[:-4])
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (417, "close")
        assert b'"error"' in body
        assert await client.rest() == b""

    _run(scenario)


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET /echo HTTP/2.0\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nname : value\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nno colon\r\n\r\n",
        _post("/echo", b"x", "content-length: 1"),
        _post("/echo", b"x", "transfer-encoding: chunked"),
        b"POST /echo HTTP/1.1\r\ncontent-length: many\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;x=\n\r\nabc\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\n\r\nabc\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: trailer\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;" + b"x" * 5000 + b"\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_request_gets_400_and_the_connection_ends(request_: bytes):
    """In our envelope; nothing behind it is taken for a request."""

    async def scenario(client: Client) -> None:
        await client.send(request_ + _post("/echo", b"smuggled"))
        status, headers, body = await client.answer()
        assert status == 400
        assert headers["connection"] == "close"
        assert b'"invalid_request_error"' in body
        assert await client.rest() in (b"", b"reset")

    _run(scenario)


def test_a_request_may_name_its_host_instead_of_a_path():
    """As one to a proxy does; what has no path then asks for the root."""

    async def scenario(client: Client) -> None:
        await client.send(b"GET http://gateway/echo HTTP/1.1\r\n\r\n", b"GET http://gateway HTTP/1.1\r\n\r\n")
        assert (await client.answer())[0] == 200
        status, _, body = await client.answer()
        assert status == 404
        assert b"there is no GET /" in body

    _run(scenario)


def test_a_body_that_does_not_come_is_not_waited_for_without_end():
    """As for a head that does not come: what has come of it is let go, and the sender hears why."""

    async def scenario(client: Client) -> None:
        await client.send(_post("/echo", b"x" * 100)[:-1])
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (408, "close")
        assert b'"invalid_request_error"' in body
        assert await client.rest() == b""

    _run(scenario, REQUEST_TIMEOUT=0.1)


async def _drip(client: Client, begun: bytes) -> None:
    """A head without end, a byte at a time."""
    await client.send(begun)
    with contextlib.suppress(ConnectionError):
        while True:
            await client.send(b"a")
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("begun", "shape"),
    [
        (b"POST /v1/messages HTTP/1.1\r\nx: ", b'{"type":"error","error":{'),
        (b"POST /api/chat?key=", b'{"error":"'),
        (b"POST /echo", b'{"error":{"message":'),
    ],
)
def test_a_head_has_one_time_limit_however_steadily_it_comes(begun: bytes, shape: bytes):
    """A byte now and then keeps nobody's connection: 408, in the dialect of its path."""

    async def scenario(client: Client) -> None:
        async with running(_drip(client, begun), name="drip"):
            status, headers, body = await client.answer()
            assert (status, headers["connection"]) == (408, "close")
            assert body.startswith(shape), body

    _run(scenario, REQUEST_TIMEOUT=0.1)


@pytest.mark.parametrize("begun", [b"GET", b"\x16\x03\x01", b"get /lower"])
def test_what_does_not_even_tell_its_path_in_time_is_closed_without_a_word(begun: bytes):
    """It may be no HTTP at all."""

    async def scenario(client: Client) -> None:
        async with running(_drip(client, begun), name="drip"):
            assert await client.rest() in (b"", b"reset")

    _run(scenario, REQUEST_TIMEOUT=0.1)


def test_a_head_beyond_the_limit_is_refused_before_its_end():
    """431, as soon as there is too much of it."""

    async def scenario(client: Client) -> None:
        await client.send(b"GET /echo HTTP/1.1\r\nx: " + b"a" * 40_000)
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (431, "close")
        assert b"headers_too_large" in body

    _run(scenario)


LINES = [
    (b"GET /nowhere?key=secret HTTP/1.1\r\n\r\n", "GET /nowhere 404"),
    (b"PUT /echo?key=secret HTTP/1.1\r\n\r\n", "PUT /echo 405"),
    (b"GET http://me:secret@host/nowhere HTTP/1.1\r\n\r\n", "GET /nowhere 404"),
    (b"GET /echo?key=secret HTTP/1.1\r\nno colon\r\n\r\n", "GET /echo 400"),
    (b"POST /echo HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n", "POST /echo 413"),
    (b"POST /echo HTTP/1.1\r\nx: " + b"a" * 40_000, "POST /echo 431"),
    (b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "POST /echo 400"),
    (b"POST /echo HTTP/1.1\r\ncontent-length: 9\r\nexpect: it\r\n\r\n", "POST /echo 417"),
    (b"OPTIONS * HTTP/1.1\r\n\r\n", "OPTIONS * 404"),
    (b"GET //nowhere HTTP/1.1\r\n\r\n", "GET //nowhere 404"),
    (b"CONNECT secret:443 HTTP/1.1\r\n\r\n", "- - 400"),
    (b"GET :: HTTP/1.1\r\n\r\n", "- - 400"),
    (b"\x1b[31m secret\r\n\r\n", "- - 400"),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", "GET /" + "a" * 255 + "… 404"),
    (b"GET /v1/models/" + b"a" * 9000 + b" HTTP/1.1\r\nno colon\r\n\r\n", "GET /v1/models/" + "a" * 245 + "… 400"),
    (b"X" * 9000 + b" / HTTP/1.1\r\n\r\n", "X" * 32 + "… / 404"),
]


def _lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "cortex.access"]


@pytest.mark.parametrize(("request_", "line"), LINES, ids=[line[:40] for _, line in LINES])
def test_a_request_that_no_handler_sees_has_its_line(request_: bytes, line: str, caplog: pytest.LogCaptureFixture):
    """One, bounded, with the id that its client was told, and without its query."""

    async def scenario(client: Client) -> None:
        await client.send(request_)
        _, headers, _ = await client.answer()
        assert _lines(caplog) == [line]
        (record,) = (record for record in caplog.records if record.name == "cortex.access")
        assert vars(record)["fields"]["id"] == headers["x-request-id"]

    caplog.set_level(logging.INFO)
    _run(scenario)
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("begun", "line"),
    [
        (b"POST /echo?key=", "POST /echo 499"),
        (b"POST /echo HTTP/1.1\r\ncontent-length: 9\r\n\r\nhalf", "POST /echo 499"),
        (b"GE", "- - 499"),
        (b"", None),
    ],
)
@pytest.mark.parametrize("leaves", ["client", "server"])
def test_a_request_that_is_left_half_way_has_its_line(
    begun: bytes, line: str | None, leaves: str, caplog: pytest.LogCaptureFixture
):
    """Whoever leaves; a connection on which nothing comes any more is left without one."""
    lines = ["POST /echo 200", *([line] if line else [])]

    async def scenario(client: Client) -> None:
        await client.send(_post("/echo", b"x") + begun)
        await client.answer()  # so the server has seen what stands behind the request
        if leaves == "client":
            client.leave()
            await until(lambda: _lines(caplog) == lines)

    caplog.set_level(logging.INFO)
    _run(scenario)
    assert _lines(caplog) == lines
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(("begun", "line"), [(b"POST /echo?key=", "POST /echo 408"), (b"GE", "- - 408")])
def test_a_head_that_came_too_late_has_its_line(begun: bytes, line: str, caplog: pytest.LogCaptureFixture):
    """Also where nobody was told so."""

    async def scenario(client: Client) -> None:
        await client.send(begun)
        await client.rest()
        assert _lines(caplog) == [line]

    caplog.set_level(logging.INFO)
    _run(scenario, REQUEST_TIMEOUT=0.1)


OPENAI, ANTHROPIC, OLLAMA = b'{"error":{"message":', b'{"type":"error","error":{', b'{"error":"'
LONG = b"x: " + b"a" * 40_000


@pytest.mark.parametrize(
    ("request_", "status", "shape"),
    [
        (b"POST /v1/messages HTTP/1.1\r\n" + LONG, 431, ANTHROPIC),
        (b"POST /v1/messages/count_tokens?beta=true HTTP/1.1\r\n" + LONG, 431, ANTHROPIC),
        (b"POST http://gateway/v1/messages HTTP/1.1\r\n" + LONG, 431, ANTHROPIC),
        (b"POST /v1/messages?" + b"a" * 40_000, 431, ANTHROPIC),
        (b"POST /api/chat HTTP/1.1\r\n" + LONG, 431, OLLAMA),
        (b"POST /v1/chat/completions HTTP/1.1\r\n" + LONG, 431, OPENAI),
        (b"POST /v1/messages HTTP/1.1\r\nno colon\r\n\r\n", 400, ANTHROPIC),
        (b"POST /v1/messages HTTP/2.0\r\n\r\n", 400, ANTHROPIC),
        (b"POST /api/chat HTTP/1.1\r\ncontent-length: many\r\n\r\n", 400, OLLAMA),
        (b"/v1/messages\r\n\r\n", 400, OPENAI),
        (b"\xff\xfe /v1/messages HTTP/1.1\r\n\r\n", 400, OPENAI),
    ],
)
def test_a_head_that_cannot_be_read_is_refused_in_the_dialect_of_its_path(request_: bytes, status: int, shape: bytes):
    """Wherever the first line got as far as the path: a client sees an error of its own kind."""

    async def scenario(client: Client) -> None:
        await client.send(request_)
        told, headers, body = await client.answer()
        assert (told, headers["connection"], "request-id" in headers) == (status, "close", shape == ANTHROPIC)
        assert body.startswith(shape), body

    _run(scenario)


def test_what_names_no_path_is_called_this_request():
    """What could not be read is not made up."""

    async def scenario(client: Client) -> None:
        await client.send(b"hello\r\n\r\n")
        assert b'"message":"this request: this is no HTTP/1.1 request"' in (await client.answer())[2]

    _run(scenario)


def test_a_head_request_that_cannot_be_read_gets_no_body():
    """As every answer to HEAD."""

    async def scenario(client: Client) -> None:
        await client.send(b"HEAD /echo HTTP/1.1\r\nno colon\r\n\r\n")
        assert (await client.answer(bodiless=True))[0] == 400
        assert await client.rest() == b""

    _run(scenario)


@pytest.mark.parametrize("with_head", [True, False])
def test_a_body_beyond_the_limit_is_refused(*, with_head: bool):
    """413, whether it was there with its head or is only announced."""

    async def scenario(client: Client) -> None:
        request = _post("/echo", b"a" * (MAX_BODY + 1))
        await client.send(request if with_head else request[:200])
        status, _, body = await client.answer()
        assert status == 413
        assert b"body_too_large" in body

    _run(scenario)


def test_a_body_of_the_size_of_the_limit_is_taken():
    """Also where it is larger than what the server reads at once."""

    async def scenario(client: Client) -> None:
        await client.send(_post("/echo", b"a" * MAX_BODY))
        status, _, body = await client.answer()
        assert (status, body.count(b"a") > MAX_BODY) == (200, True)

    _run(scenario)


def test_head_is_answered_without_a_body():
    """With the length that GET would have; what is made in pieces is not sent either."""

    async def scenario(client: Client) -> None:
        await client.send(b"HEAD /echo HTTP/1.1\r\nhost: x\r\n\r\n")
        status, headers, _ = await client.answer(bodiless=True)
        assert (status, int(headers["content-length"]) > 10) == (200, True)
        await client.send(b"HEAD /stream HTTP/1.1\r\nhost: x\r\n\r\n")
        status, headers, _ = await client.answer(bodiless=True)
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        await client.send(_post("/stream?status=204", b""))
        status, headers, _ = await client.answer(bodiless=True)
        assert (status, "transfer-encoding" in headers) == (204, False)
        await client.send(b"GET /echo HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b'"method":"GET"' in (await client.answer())[2]

    _run(scenario)


def test_a_streams_end_is_told_as_the_client_understands_it():
    """By its length, by chunks, and to HTTP/1.0 by the end of the connection."""

    async def scenario(client: Client) -> None:
        whole = b"".join(PIECES)
        await client.send(_post(f"/stream?length={len(whole)}", b""))
        status, headers, body = await client.answer()
        assert (status, body, "transfer-encoding" in headers) == (200, whole, False)
        assert headers["x-request-id"].startswith("req_")
        await client.send(_post("/stream", b"", version="1.0") + _post("/echo", b"too late"))
        status, headers, body = await client.answer()
        assert (status, body, headers["connection"]) == (200, whole, "close")
        assert "transfer-encoding" not in headers

    _run(scenario)


@pytest.mark.parametrize("query", ["length=1000", "length=3", "broken=1"])
def test_an_answer_that_is_not_whole_is_cut(query: str):
    """Shorter or longer than it said, or left by its handler: the client must not take it for whole, nor wait for ever."""

    async def scenario(client: Client) -> None:
        await client.send(_post(f"/stream?{query}", b""))
        said = await client.rest()
        assert not said.endswith(b"0\r\n\r\n")

    _run(scenario)


def test_an_error_leaves_the_connection_usable():
    """What a handler refuses is an answer like any other."""

    async def scenario(client: Client) -> None:
        await client.send(_post("/refuse", b"{}") + _post("/nowhere", b"{}") + _post("/echo", b"x"))
        answers = [await client.answer() for _ in range(3)]
        assert [status for status, _, _ in answers] == [503, 404, 200]
        assert answers[0][1]["retry-after"] == "1"

    _run(scenario)


def test_a_client_that_reads_slowly_holds_its_handler_back():
    """Nothing is piled up for it: the handler waits, and goes on when the client reads."""
    sent = 0

    async def flood(request: Request) -> None:
        nonlocal sent
        sink = web.SanicSink(request)
        await sink.start(200, [("content-type", "text/event-stream")])
        for _ in range(1000):
            await sink.send(bytes(65536))
            sent += 65536
        await sink.finish()

    async def scenario() -> None:
        app = web.new_app("test", max_body_bytes=MAX_BODY)
        web.route(app, "POST", "/flood", flood)
        async with asyncio.timeout(20), web.listening(app, Listen("127.0.0.1", 0)) as bound:
            reader, writer = await asyncio.open_connection("127.0.0.1", bound.port, limit=1024)
            writer.write(_post("/flood", b""))
            await reader.readuntil(b"\r\n\r\n")
            seen = -1
            while sent != seen:
                seen = sent
                await asyncio.sleep(0.05)
            assert 0 < sent < 1000 * 65536
            writer.transport.abort()
            await until(lambda: app.ctx.in_flight == 0)

    uvloop.run(scenario())

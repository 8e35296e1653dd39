"""web: one error shape, one log line, and a client who leaves is noticed."""

import asyncio
import logging

import httpx
import pytest

from cortex import errors, web
from cortex.config.listen import Listen

LOOPBACK = Listen("127.0.0.1", 0)


async def _call(app, method, path, **kwargs):
    async with web.listening(app, LOOPBACK) as bound, httpx.AsyncClient() as client:
        return await client.request(method, f"http://{bound}{path}", **kwargs)


def _app(handler=None, method="POST", path="/x/<name:path>"):
    app = web.new_app("test", max_body_bytes=1000)
    if handler:
        web.route(app, method, path, handler)
    return app


def test_a_cortex_error_becomes_its_status_envelope_and_retry_after():
    """What a handler raises is rendered once: status, OpenAI's envelope, Retry-After for what is worth a retry."""

    async def handler(_request, name):
        raise errors.unavailable(f"{name} is away", retry_after=2.5)

    answer = asyncio.run(_call(_app(handler), "POST", "/x/a%2Fb", content=b"{}"))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "3"
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.json() == {
        "error": {"message": "a/b is away", "type": "api_error", "code": "service_unavailable", "param": None}
    }


def test_an_unexpected_exception_says_nothing_about_the_inside(caplog):
    """A bug is a 500 without details for the client, and a log entry with all of them."""

    async def handler(_request, name):
        raise ZeroDivisionError("secret inside " + name)

    answer = asyncio.run(_call(_app(handler), "POST", "/x/y", content=b"{}"))
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["error"]["code"] == "internal_server_error"
    assert "secret inside" in caplog.text


@pytest.mark.parametrize("chunked", [False, True])
def test_who_sends_far_too_much_hears_so(chunked):
    """All of it is sent before the answer is read: the connection is not reset meanwhile."""

    async def pieces():
        for _ in range(64):
            yield bytes(65_536)

    async def handler(_request, name):
        return web.json({"name": name})

    async def scenario():
        async with web.listening(_app(handler), LOOPBACK) as bound:
            for _ in range(5):
                async with httpx.AsyncClient() as client:
                    body = pieces() if chunked else bytes(4_194_304)
                    answer = await client.post(f"http://{bound}/x/y", content=body)
                    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")

    asyncio.run(scenario())


def test_headers_of_some_kilobytes_are_taken_whatever_else_listens():
    """Agents say much about themselves; an application with a small body limit in the same process changes nothing."""

    async def handler(_request, name):
        return web.json({"name": name})

    for size, status in ((20_000, 200), (40_000, 431)):
        app = _app(handler, "GET")
        _app()  # the last application's limit must not hold for the others
        answer = asyncio.run(_call(app, "GET", "/x/y", headers={"x-said": "a" * size}))
        assert answer.status_code == status
    assert answer.json()["error"]["code"] == "headers_too_large"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nothing", b"", 404, "not_found"),
        ("GET", "/x/y", b"", 405, "method_not_allowed"),
        ("POST", "/x/y", b"x" * 2000, 413, "body_too_large"),
    ],
)
def test_what_no_handler_sees_has_the_envelope_too(method, path, body, status, code):
    """Unknown routes, wrong methods and oversized bodies answer in the same shape as everything else."""

    async def handler(request, name):
        return web.json({"name": name, "size": len(request.body)})

    answer = asyncio.run(_call(_app(handler), method, path, content=body))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_body_that_is_no_json_object_is_named():
    """Malformed JSON is 400 malformed_json, JSON of another shape is 422."""

    async def handler(request, name):
        return web.json({"name": name, **web.json_object(request)})

    broken = asyncio.run(_call(_app(handler), "POST", "/x/y", content=b"{"))
    listed = asyncio.run(_call(_app(handler), "POST", "/x/y", content=b"[]"))
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "malformed_json")
    assert (listed.status_code, listed.json()["error"]["code"]) == (422, "invalid_request_body")


def test_errors_on_messages_have_anthropics_shape():
    """The same error speaks the dialect of the path it was asked on."""

    async def handler(_request):
        raise errors.context_length_exceeded(9000, 8192)

    body = asyncio.run(_call(_app(handler, path="/v1/messages"), "POST", "/v1/messages", content=b"{}")).json()
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"].startswith("prompt is too long")
    assert body["request_id"].startswith("req_")


def test_a_client_that_leaves_cancels_its_handler():
    """The handler is cancelled when the connection closes, whether it waits or streams."""
    ended = []

    async def handler(request, name):
        try:
            if name == "stream":
                sink = web.SanicSink(request)
                await sink.start(200, [("content-type", "text/event-stream")])
                await sink.send(b"data: 1\n\n")
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def scenario():
        app = _app(handler)
        async with web.listening(app, LOOPBACK) as bound:
            for name in ("wait", "stream"):
                reader, writer = await asyncio.open_connection("127.0.0.1", bound.port)
                writer.write(f"POST /x/{name} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
                while app.ctx.in_flight == 0:
                    await asyncio.sleep(0.01)
                if name == "stream":
                    await reader.readuntil(b"data: 1")
                writer.close()
                await writer.wait_closed()
                assert await web.drained(app, 5)

    asyncio.run(scenario())
    assert ended == ["wait", "stream"]


@pytest.mark.parametrize("name", ["raises", "aborts"])
def test_the_line_of_an_answer_that_broke_off_says_so(name, caplog):
    """Its status was sent and is no lie, so it does not tell: neither of one that a handler gave up, nor of a mistake."""

    async def handler(request, name):
        sink = web.SanicSink(request)
        await sink.start(200, [("content-type", "application/json")])
        await sink.send(b"{")
        if name == "raises":
            raise errors.unavailable("gone")
        sink.abort(errors.unavailable("gone"))

    caplog.set_level(logging.INFO, "cortex.access")
    with pytest.raises(httpx.RemoteProtocolError):
        asyncio.run(_call(_app(handler), "POST", f"/x/{name}", content=b"{}"))
    (line,) = [record for record in caplog.records if record.name == "cortex.access"]
    assert line.getMessage() == f"POST /x/{name} 200"
    assert line.fields["broke_off"] is True


def test_leaving_the_listener_ends_open_streams():
    """No handler outlives its listener."""
    ended = []

    async def handler(_request, name):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def scenario():
        app = _app(handler)
        async with web.listening(app, LOOPBACK) as bound:
            _, writer = await asyncio.open_connection("127.0.0.1", bound.port)
            writer.write(b"POST /x/open HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
            while app.ctx.in_flight == 0:
                await asyncio.sleep(0.01)
        assert await web.drained(app, 5)
        writer.close()

    asyncio.run(scenario())
    assert ended == ["open"]

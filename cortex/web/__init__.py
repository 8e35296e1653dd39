"""Sanic in one place: applications, the one exception handler, JSON helpers, listeners; http1.py and sink.py: the way in and out.

A client that leaves cancels its handler (Sanic cancels the connection's task), so a handler that holds something holds
it in an `async with`. Every request ends in exactly one log line, also then.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

import orjson
from pydantic import BaseModel, ValidationError
from sanic import Request, Sanic
from sanic.exceptions import MethodNotAllowed, NotFound, PayloadTooLarge, SanicException
from sanic.http.constants import Stage
from sanic.response import BaseHTTPResponse, HTTPResponse

from cortex import errors
from cortex.config.listen import Listen
from cortex.errors import CortexError
from cortex.log import new_request_id, request_ended
from cortex.web.http1 import HEADER_LIMIT_BYTES, LEFT, Protocol
from cortex.web.sink import SanicSink as SanicSink
from cortex.wire.errors import dialect_of, error_body, retry_after_header

Handler = Callable[..., Awaitable[HTTPResponse | None]]
M = TypeVar("M", bound=BaseModel)
log = logging.getLogger(__name__)
_numbers = itertools.count(1)

ACCEPT_TURNS = (
    8  # turns of the event loop after which a connection that was accepted in the last moment is ours to close
)
HEAD_S = 60.0  # for the head of a request to come whole, and for each silence in its body; looked at twice in that time
GONE_S = 300  # a client whose host shows no sign of life, or that takes nothing of its answer, for so long
NO_LIMIT_S = 1e9  # Sanic's own clocks are off: an answer may take hours, and idle time-outs are ours


class App(Sanic[Any, Any]):
    """Sanic without what nothing here uses: signals (with TOUCHUP off it dispatches eleven a request), middleware, websockets."""

    async def dispatch(self, *_arguments: Any, **_options: Any) -> None:  # type: ignore[override]
        return None

    def create_server(self, *arguments: Any, **options: Any) -> Any:
        return super().create_server(*arguments, protocol=Protocol, **options)

    async def handle_request(self, request: Request) -> None:
        http: Any = request.stream
        try:
            request.route, handler, parts = self.router.get(request.path, request.method, None)
            if http.request_body:
                await http.receive_body()
            response = await handler(request, **parts)
            if response is not None:
                await http.answer(response)
            elif http.stage is Stage.RESPONSE:
                http.cut()  # a handler that began an answer and left it
        except Exception as error:
            await self.handle_exception(request, error)

    def ended_unseen(self, request: Request, status: int, request_id: str | None = None) -> None:
        """The line of a request that no handler saw; one that a handler saw has its own."""
        context = request.ctx
        if hasattr(context, "id"):
            return
        context.id = request_id or new_request_id()
        http: Any = request.stream
        ms = (time.perf_counter() - http.perft0) * 1000 if http.perft0 else 0.0
        method, path = (request.method, request.path) if request.path else ("-", "-")
        request_ended(request_id=context.id, method=method, path=path, status=status, ms=ms)


def new_app(role: str, *, max_body_bytes: int) -> Sanic[Any, Any]:
    """An application with our settings and error handling. Several may live in one process."""
    app = App(f"cortex-{role}-{next(_numbers)}", configure_logging=False)
    app.config.update(
        {
            "TOUCHUP": False,  # Sanic would rewrite its methods from source, which a compiled program has not
            "ACCESS_LOG": False,
            "MOTD": False,
            "REQUEST_MAX_SIZE": max_body_bytes,
            "REQUEST_TIMEOUT": HEAD_S,
            "RESPONSE_TIMEOUT": NO_LIMIT_S,
            "KEEP_ALIVE_TIMEOUT": 75.0,
        }
    )
    app.error_handler.add(Exception, _on_exception)
    app.ctx.in_flight = 0
    return app


def route(app: Sanic[Any, Any], method: str, path: str, handler: Handler) -> None:
    """Serve `handler(request, **path parts)`. It returns a response, or None when it answered through a Sink; it raises CortexError."""

    async def serve(request: Request, **parts: Any) -> HTTPResponse | None:
        context = request.ctx
        context.id, context.began, context.fields, context.sink = new_request_id(), time.monotonic(), {}, None
        app.ctx.in_flight += 1
        status = LEFT
        try:
            for name, part in parts.items():
                parts[name] = unquote(part) if isinstance(part, str) else part
            response = await handler(request, **parts)
            status = response.status if response else context.sink.status
        except Exception as error:
            if context.sink and context.sink.status is not None:
                status = context.sink.status
                context.sink.abort(as_cortex_error(request, error, context.id))  # a bug is logged whole there
                return None
            response = error_response(request, error)
            status = response.status
        finally:
            app.ctx.in_flight -= 1
            ms = (time.monotonic() - context.began) * 1000
            request_ended(
                request_id=context.id, method=method, path=request.path, status=status, ms=ms, **context.fields
            )
        if response:
            response.headers["x-request-id"] = context.id
        return response

    name = f"{method}_{path}".translate(str.maketrans("/<>:{}.", "_______"))
    app.add_route(serve, path, methods=[method], name=name)


def _on_exception(request: Request, error: Exception) -> BaseHTTPResponse:
    """What no handler of ours raised: unknown routes, wrong methods, unreadable requests."""
    response = error_response(request, error)
    app: Any = request.app
    app.ended_unseen(request, response.status, response.headers["x-request-id"])
    return response


def error_response(request: Request, error: Exception) -> HTTPResponse:
    """Any exception in the client's dialect. What is not a CortexError is logged whole and told as "internal error"."""
    request_id = getattr(request.ctx, "id", None) or new_request_id() if request else new_request_id()
    known = as_cortex_error(request, error, request_id)
    dialect = dialect_of(request.path if request else "")
    headers = {"x-request-id": request_id, **retry_after_header(known)}
    if dialect == "anthropic":
        headers["request-id"] = request_id
    if known.status == 401:
        headers["www-authenticate"] = "Bearer"
    return json(error_body(known, dialect, request_id), status=known.status, headers=headers)


def as_cortex_error(request: Request | None, error: Exception, request_id: str) -> CortexError:
    where = f"{request.method} {request.path}" if request and request.path else "this request"
    if isinstance(error, CortexError):
        return error
    if isinstance(error, PayloadTooLarge) and request is not None:
        return _too_large(error, request.app.config.REQUEST_MAX_SIZE)
    if isinstance(error, NotFound):
        return errors.not_found(f"there is no {where}")
    if isinstance(error, MethodNotAllowed):
        return errors.invalid_request(f"{where}: method not allowed", code="method_not_allowed", status=405)
    if isinstance(error, SanicException) and error.status_code < 500:
        return errors.invalid_request(f"{where}: {error}", status=error.status_code)
    log.error("%s failed", where, exc_info=error, extra={"fields": {"id": request_id}})
    return errors.internal()


def _too_large(error: PayloadTooLarge, max_body_bytes: int) -> CortexError:
    if "header" not in str(error):
        return errors.body_too_large(max_body_bytes)
    what = f"the headers of this request are larger than the {HEADER_LIMIT_BYTES} bytes accepted here"
    return errors.invalid_request(what, code="headers_too_large", status=431)


# ---- bodies


def json(data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    return HTTPResponse(orjson.dumps(data), status=status, headers=dict(headers or {}), content_type="application/json")


def json_bytes(data: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    """JSON that is encoded already (pydantic's own, or an upstream's)."""
    return HTTPResponse(data, status=status, headers=dict(headers or {}), content_type="application/json")


def json_object(request: Request) -> dict[str, Any]:
    """The request's body, parsed once. Raises 400 with the reason when it is no JSON object."""
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise errors.malformed_json(str(error)) from error
    if not isinstance(body, dict):
        raise errors.invalid_request("the request body must be a JSON object", code="invalid_request_body", status=422)
    return body


def parse(kind: type[M], body: Mapping[str, Any]) -> M:
    """A body as one of our types. Raises 400 naming the first field that is wrong and what it should be."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"]) or None
        raise errors.invalid_request(
            f"{field or 'body'}: {first['msg']}", code="invalid_request_body", param=field
        ) from None


# ---- listeners


@contextlib.asynccontextmanager
async def listening(app: Sanic[Any, Any], listen: Listen, tls: ssl.SSLContext | None = None) -> AsyncIterator[Listen]:
    """Serve `app` on an address for as long as the block lasts; yields the address with the port that was bound.

    With `tls` it speaks https and nothing else.

    Leaving the block stops accepting, closes idle connections, and ends what is still open: whoever wants to drain waits
    for `drained(app, …)` first. Raises OSError when the address is taken.
    """
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    sock = socket.create_server((listen.host, listen.port), family=family, backlog=1024)
    sock.setblocking(False)  # noqa: FBT003  the socket module takes it so
    # uvloop sets it by itself; asyncio's own loop would hold events back.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _notice_the_gone(sock)
    server: Any = await app.create_server(sock=sock, ssl=tls, return_asyncio_server=True, access_log=False)
    await server.startup()
    await server.before_start()
    await server.after_start()
    try:
        yield Listen(listen.host, sock.getsockname()[1])
    finally:
        server.close()
        for _ in range(ACCEPT_TURNS):
            for connection in list(server.connections):
                if not connection.close_if_idle():
                    connection.abort()  # cancels its handler, which frees what it holds
            await asyncio.sleep(0)
        await server.wait_closed()
        await server.before_stop()
        await server.after_stop()
        Sanic.unregister_app(app)


def _notice_the_gone(sock: socket.socket) -> None:
    """For every connection that is accepted here: whoever is unplugged, and so cannot say that it leaves, holds nothing for long."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, GONE_S // 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, GONE_S // 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_S * 1000)


async def drained(app: Sanic[Any, Any], within_s: float) -> bool:
    """Wait until no request is in flight; False when time ran out first."""
    deadline = time.monotonic() + within_s
    while app.ctx.in_flight and time.monotonic() < deadline:  # noqa: ASYNC110  the hot path stays a plain counter
        await asyncio.sleep(0.02)
    return not app.ctx.in_flight

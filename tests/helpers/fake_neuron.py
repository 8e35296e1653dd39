"""A neuron that does what a test tells it, on a real socket.

It is right by itself: control plane, chat, streams, load jobs. A test makes it misbehave by its attributes:

    health, models, discovery      what the control plane tells
    control = hang | answer(…)     every control-plane call goes there instead
    instead[path] = …              one control-plane path goes there instead
    chat = answer(503, …) | …      every inference call goes there instead
    load_gate                      loads wait for it; clear it to hold them
    load_failures                  model id → error object with which its load fails

`asked` has every control-plane path, `sent` every inference request, `counted` what was to be counted, `loads`, `unloads`
and `kept` what was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson
from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.config.gateway import NeuronRef
from cortex.config.listen import Listen
from cortex.tasks import Tasks

Behaviour = Callable[[Request], Awaitable[HTTPResponse | None]]

# Spaces and an unknown field on purpose: only bytes that were passed on verbatim look like this.
CHAT_ANSWER = (
    b'{"id":"chatcmpl-1", "object":"chat.completion","created":1,"model":"org/m","odd" :  true,'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"Paris"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}'
)


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return (
        b"data: "
        + orjson.dumps(
            {
                "id": "c",
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            }
        )
        + b"\n\n"
    )


USAGE_EVENT = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":2}}}\n\n'
STREAM_EVENTS = (
    chunk({"role": "assistant", "content": None}),
    chunk({"content": "Par"}),
    chunk({"content": "is"}),
    chunk({}, "stop"),
    USAGE_EVENT,
    b"data: [DONE]\n\n",
)


@dataclass
class Sent:
    """An inference request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class FakeJob:
    id: str
    model_id: str
    done: asyncio.Event = field(default_factory=asyncio.Event)
    error: dict[str, Any] | None = None

    def told(self) -> dict[str, Any]:
        stage = "loading" if not self.done.is_set() else "failed" if self.error else "done"
        return {"id": self.id, "model_id": self.model_id, "stage": stage, "started_at": 1.0} | (
            {"error": self.error} if self.error else {}
        )


class FakeNeuron:
    def __init__(self, name: str, models: dict[str, str] | None = None, *, port: int = 0) -> None:
        self.name = name
        self.models: dict[str, dict[str, Any]] = {
            id_: {"id": id_, "harness": "llamacpp", "status": status, "devices": []}
            for id_, status in (models or {}).items()
        }
        self.discovery: dict[str, Any] = {
            "hostname": name,
            "devices": [],
            "harnesses": ["llamacpp"],
            "memory_total_mb": 8000,
            "version": "0.1.0",
        }
        self.health: dict[str, Any] = {"uptime_secs": 1, "devices": [], "models": [], "memory_free_mb": 4000}
        self.inference_url: str | None = None  # what it reports instead of its own
        self.control: Behaviour | None = None
        self.instead: dict[str, Behaviour] = {}
        self.asked: list[str] = []
        self.chat: Behaviour | None = None
        self.events: tuple[bytes, ...] = STREAM_EVENTS
        self.step: Callable[[int], Awaitable[object]] | None = None  # awaited before each event of a stream
        self.load_gate = asyncio.Event()
        self.load_gate.set()
        self.load_failures: dict[str, dict[str, Any]] = {}
        self.polls = 0
        self.sent: list[Sent] = []
        self.loads: list[dict[str, Any]] = []
        self.unloads: list[dict[str, Any]] = []
        self.kept: list[tuple[str, float]] = []
        self.jobs: dict[str, FakeJob] = {}
        self.tokens = 42  # of every prompt that is to be counted
        self.counted: list[dict[str, Any]] = []
        self.kept_for: str | None = None  # a place, by /models/yield
        self.gone = 0  # inference requests whose client left
        self._numbers = itertools.count(1)
        self._port = port
        self._stack = contextlib.AsyncExitStack()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def ref(self) -> NeuronRef:
        return NeuronRef(name=self.name, endpoint=self.endpoint)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after `stop` again on the same port."""
        self._tasks = Tasks(f"fake {self.name}")
        self._stack.push_async_callback(self._tasks.aclose)
        app = web.new_app(f"fake-{self.name}", max_body_bytes=10_000_000)
        for method, path, handler in (
            ("GET", "/discovery", self._discovery),
            ("GET", "/health", self._health),
            ("GET", "/models", self._models),
            ("GET", "/models/<model_id:path>/endpoint", self._endpoint),
            ("GET", "/jobs/<job_id:str>", self._job),
            ("POST", "/models/load", self._load),
            ("POST", "/models/unload", self._unload),
            ("POST", "/models/keep", self._keep),
            ("POST", "/models/yield", self._give_way),
        ):
            web.route(app, method, path, self._controlled(handler))
        for path in ("chat/completions", "completions", "embeddings", "rerank"):
            web.route(app, "POST", f"/v1/{path}", self._inference)
        web.route(app, "POST", "/v1/chat/completions/input_tokens", self._controlled(self._count))
        bound = await self._stack.enter_async_context(web.listening(app, Listen("127.0.0.1", self._port)))
        self._port = bound.port

    async def stop(self) -> None:
        """Refuse connections, and cut those that are open."""
        await self._stack.aclose()

    # ---- control plane

    def _controlled(
        self, handler: Callable[..., Awaitable[HTTPResponse]]
    ) -> Callable[..., Awaitable[HTTPResponse | None]]:
        async def controlled(request: Request, **parts: str) -> HTTPResponse | None:
            self.asked.append(request.path)
            other = self.control or self.instead.get(request.path)
            return await (other(request) if other else handler(request, **parts))

        return controlled

    async def _discovery(self, _request: Request) -> HTTPResponse:
        return web.json(self.discovery)

    async def _health(self, _request: Request) -> HTTPResponse:
        return web.json(self.health)

    async def _models(self, request: Request) -> HTTPResponse:
        self.polls += 1
        everything = request.args.get("all") == "true"
        return web.json([entry for entry in self.models.values() if everything or entry["status"] == "loaded"])

    async def _count(self, request: Request) -> HTTPResponse:
        self.counted.append(orjson.loads(request.body))
        return web.json({"input_tokens": self.tokens})

    async def _endpoint(self, _request: Request, model_id: str) -> HTTPResponse:
        if self._status(model_id) != "loaded":
            return web.json({"error": f"model '{model_id}' not loaded"}, status=404)
        return web.json({"url": self.inference_url or f"http://localhost:{self._port}/"})

    async def _load(self, request: Request) -> HTTPResponse:
        asked = orjson.loads(request.body)
        self.loads.append(asked)
        model_id = asked["model_id"]
        if self.kept_for not in (None, model_id):
            return web.json({"error": {"message": "a place is kept", "code": "model_busy"}}, status=409)
        self.kept_for = None
        if self._status(model_id) == "loaded":
            return web.json({"status": "loaded"})
        running = self.models.get(model_id, {}).get("job_id")
        if running is None:
            job = FakeJob(f"{self.name}-{next(self._numbers)}", model_id)
            self.jobs[job.id] = job
            self.models[model_id] = {"id": model_id, "status": "loading", "job_id": job.id}
            self._tasks.start(f"load {model_id}", self._bring_up(job))
            running = job.id
        return web.json({"status": "loading", "job": self.jobs[running].told()}, status=202)

    async def _bring_up(self, job: FakeJob) -> None:
        await self.load_gate.wait()
        job.error = self.load_failures.get(job.model_id)
        self.models[job.model_id] = {"id": job.model_id, "status": "failed" if job.error else "loaded"}
        job.done.set()

    async def _job(self, request: Request, job_id: str) -> HTTPResponse:
        if job_id not in self.jobs:
            raise errors.not_found(f"no job {job_id}")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.jobs[job_id].done.wait(), float(request.args.get("wait", "0")))
        return web.json(self.jobs[job_id].told())

    async def _unload(self, request: Request) -> HTTPResponse:
        asked = orjson.loads(request.body)
        self.unloads.append(asked)
        if self._status(asked["model_id"]) != "loaded":
            return web.json({"error": f"model '{asked['model_id']}' not found on any harness"}, status=404)
        self.models[asked["model_id"]]["status"] = "unloaded"
        return web.json({"status": "unloaded"})

    async def _keep(self, request: Request) -> HTTPResponse:
        asked = orjson.loads(request.body)
        self.kept.append((asked["model_id"], asked["ttl"]))
        self.models[asked["model_id"]]["ttl"] = asked["ttl"]
        return web.json({"status": "kept", "ttl": asked["ttl"]})

    async def _give_way(self, request: Request) -> HTTPResponse:
        asked = orjson.loads(request.body)
        self.models[asked["model_id"]]["yields"] = True
        self.kept_for = asked["to"]
        return web.json({"status": "yielding", "seconds": asked["seconds"]})

    def _status(self, model_id: str) -> str | None:
        return self.models.get(model_id, {}).get("status")

    # ---- inference

    async def _inference(self, request: Request) -> HTTPResponse | None:
        self.sent.append(Sent(request.path, dict(request.headers.items()), request.body))
        try:
            return await (self.chat or self._chat)(request)
        except asyncio.CancelledError:
            self.gone += 1
            raise

    async def _chat(self, request: Request) -> HTTPResponse | None:
        asked = orjson.loads(request.body)
        if self._status(asked["model"]) != "loaded":
            return web.json({"error": f"model '{asked['model']}' not loaded on this neuron"}, status=404)
        if not asked.get("stream"):
            return web.json_bytes(CHAT_ANSWER, headers={"x-upstream": "yes"})
        sink = web.SanicSink(request)
        await sink.start(200, [("content-type", "text/event-stream"), ("x-upstream", "yes")])
        for number, event in enumerate(self.events):
            if self.step:
                await self.step(number)
            await sink.send(event)
        await sink.finish()
        return None


# ---- ways to misbehave


def hold_at(number: int, gate: asyncio.Event | None = None) -> Callable[[int], Awaitable[object]]:
    """A stream's `step` that waits before this event: for `gate`, or for ever."""
    gate = gate or asyncio.Event()
    return lambda reached: gate.wait() if reached == number else asyncio.sleep(0)


async def hang(_request: Request) -> HTTPResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


def answer(status: int, body: bytes, **headers: str) -> Behaviour:
    """Always say this."""

    async def say(_request: Request) -> HTTPResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return HTTPResponse(body, status=status, headers=named, content_type="application/json")

    return say


async def reset(request: Request) -> HTTPResponse | None:
    """Break the connection before an answer."""
    request.transport.close()
    await asyncio.Event().wait()
    return None


def cut_after(data: bytes, content_type: str = "text/event-stream") -> Behaviour:
    """Begin an answer with these bytes and break the connection."""

    async def begin(request: Request) -> None:
        sink = web.SanicSink(request)
        await sink.start(200, [("content-type", content_type)])
        if data:
            await sink.send(data)
        request.transport.close()  # flushes what was written, and ends without the last chunk
        await asyncio.Event().wait()

    return begin

"""The neuron's composition root: its parts, its routes, and the order in which it starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanic import Request, Sanic
from sanic.response import HTTPResponse

from cortex import web
from cortex.config.listen import Listen
from cortex.config.neuron import NeuronConfig
from cortex.config.state_dir import state_directory
from cortex.net import tls
from cortex.net.pool import Pool
from cortex.neuron.announce import Announcer
from cortex.neuron.api.control import ControlApi
from cortex.neuron.api.files import FilesApi
from cortex.neuron.api.guard import Guard
from cortex.neuron.api.inference import InferenceApi
from cortex.neuron.api.openai_models import ModelsApi
from cortex.neuron.api.tokens import TokensApi
from cortex.neuron.hardware.watch import HardwareWatch
from cortex.neuron.harness import backends, ctransformers_cuda, server_binary
from cortex.neuron.harness.backends import Backends
from cortex.neuron.harness.ctransformers_cuda import CudaLibrary
from cortex.neuron.harness.server_binary import ServerBinary
from cortex.neuron.metrics import Metrics
from cortex.neuron.models import idle
from cortex.neuron.models.activation import DefaultModels
from cortex.neuron.models.library import Library
from cortex.neuron.models.loading import Loader
from cortex.neuron.models.registry import Registry
from cortex.neuron.models.vocabulary import Vocabularies
from cortex.neuron.reconfigure import Reconfiguration
from cortex.neuron.runtime_dir import runtime_directory
from cortex.neuron.service import Service
from cortex.neuron.sync.policy import Policy
from cortex.neuron.sync.receptions import Receptions
from cortex.neuron.sync.shelf import Shelf
from cortex.tasks import Tasks

FAREWELL_S = 2.0  # for the last error events to reach their clients
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NeuronHandle:
    """A running neuron: where it listens, and how its configuration is replaced."""

    listen: Listen
    reconfiguration: Reconfiguration


@contextlib.asynccontextmanager
async def running(config: NeuronConfig) -> AsyncIterator[NeuronHandle]:
    """A neuron for the time of a block. Start: ① parts ② port ③ default models. Stop, on leaving:

    ⓪ gateways that it had joined are told that it leaves
    ① new loads and requests are refused with 503 `shutting_down`; waiters hear it at once; control endpoints still answer
    ② each model's requests may finish until `limits.drain_secs`; then its engine ends, and a stream that was left ends with an error event
    ③ the port closes, the runtime directory goes
    """
    async with contextlib.AsyncExitStack() as stack:
        tasks = Tasks("neuron")
        stack.push_async_callback(tasks.aclose)
        runtime = stack.enter_context(runtime_directory(config.runtime_dir))
        hardware = await stack.enter_async_context(HardwareWatch(config.models_dir).running())
        library = await stack.enter_async_context(Library(config).running())
        server = await _server_binary(config.harness.llamacpp.server_binary)
        cuda = await _cuda_library(config.harness.ctransformers.cuda_libraries)
        own = None if server else await _backends(config.harness.llamacpp.backends, hardware)
        loader = Loader(config, hardware, library, runtime, server, cuda=cuda, backends=own)
        registry = await stack.enter_async_context(Registry(loader, config).running())
        pool = await stack.enter_async_context(Pool(keepalive=False))  # a Unix socket is cheap to open, and never stale
        service = Service(state_directory(config.state_dir), registry)
        defaults = DefaultModels(registry, config.default_models)
        showing = tls.showing(config.tls_cert, config.tls_key) if config.tls_cert and config.tls_key else None
        scheme = "https" if showing else "http"
        guard = Guard(config.token)
        policy = Policy(config.sync, guard)
        control = ControlApi(
            loader, registry, service, defaults, Metrics(loader, registry), policy, port=config.port, scheme=scheme
        )
        inference = InferenceApi(registry, pool, idle_timeout_s=config.admission.idle_timeout_secs)
        vocabularies = await stack.enter_async_context(Vocabularies(runtime).running())
        tokens = TokensApi(registry, loader, vocabularies, pool)
        max_body_bytes = config.limits.max_body_mb * 1024 * 1024
        shelf = await stack.enter_async_context(Shelf(config.models_dir).running())
        receptions = Receptions(config.models_dir, library, registry.jobs, max_body_bytes=max_body_bytes)
        await stack.enter_async_context(receptions.running())
        files = FilesApi(policy, registry, loader, shelf, receptions)
        app = web.new_app("neuron", max_body_bytes=max_body_bytes)
        _routes(app, guard, control, inference, tokens, ModelsApi(registry), files)
        listening = await stack.enter_async_context(web.listening(app, config.listen, showing))
        control.port = listening.port
        stack.push_async_callback(web.drained, app, FAREWELL_S)
        stack.push_async_callback(registry.aclose)
        announcer = await stack.enter_async_context(Announcer(config, listening.port).running())
        tasks.start("default models", defaults.run())
        tasks.start("idle models", idle.watch(registry))
        log.info("neuron listens on %s://%s", scheme, listening)
        for reason in filter(None, (hardware.facts.cpu_unsupported_reason, loader.harnesses.gpus_unavailable)):
            log.warning("models are refused here: %s", reason)
        if not loader.harnesses.gpus_unavailable:
            for index, why in loader.harnesses.foreign_gpus.items():
                log.warning("models are not put on GPU %d: %s", index, why)
        yield NeuronHandle(listening, Reconfiguration(config, guard, registry, announcer, showing))


async def _server_binary(path: Path | None) -> ServerBinary | None:
    """What the operator's own llama-server says of itself; the log has it, and what is wrong with it."""
    if path is None:
        return None
    server = await asyncio.to_thread(server_binary.examine, path)
    if server.problem:
        log.error(
            "%s (%s): no model is served by llama.cpp until that is mended and the neuron restarted",
            server.problem,
            path,
        )
    else:
        log.info("llama.cpp is %s, version %s, GPUs: %s", path, server.version, "; ".join(server.gpus) or "none")
    return server


async def _backends(folder: Path | None, hardware: HardwareWatch) -> Backends | None:
    """What the built-in engine has beside it for this host; the log has it, and what is wrong with it."""
    found = await asyncio.to_thread(backends.find, folder, hardware.facts.cpu_flags)
    if found and found.problem:
        log.error(
            "%s (%s): no model is served by llama.cpp until that is mended and the neuron restarted",
            found.problem,
            found.folder,
        )
    elif found:
        log.info("backends in %s: %s", found.folder, found)
    return found


async def _cuda_library(folder: Path | None) -> CudaLibrary:
    """What legacy models have for GPUs; where the operator named a folder, the log has what it lacks."""
    cuda = await asyncio.to_thread(ctransformers_cuda.find, folder)
    if folder and cuda.problem:
        log.error(
            "%s (%s): legacy models run on the processor until that is mended and the neuron restarted",
            cuda.problem,
            folder,
        )
    return cuda


def _routes(
    app: Sanic[Any, Any],
    guard: Guard,
    control: ControlApi,
    inference: InferenceApi,
    tokens: TokensApi,
    models: ModelsApi,
    files: FilesApi,
) -> None:
    for method, path, handler in (
        ("GET", "/discovery", control.discovery),
        ("GET", "/models", control.models),
        ("GET", "/models/<model_id:path>/endpoint", control.endpoint),
        ("GET", "/models/<model_id:path>/files", files.offer),
        ("POST", "/models/<model_id:path>/files", files.begin),
        ("GET", "/models/<model_id:path>/files/<sha256:str>", files.piece),
        ("PUT", "/models/<model_id:path>/files/<sha256:str>", files.put),
        ("POST", "/models/load", control.load),
        ("POST", "/models/unload", control.unload),
        ("POST", "/models/keep", control.keep),
        ("POST", "/models/yield", control.give_way),
        ("POST", "/drain", control.drain),
        ("POST", "/undrain", control.undrain),
        ("GET", "/jobs", control.jobs),
        ("GET", "/jobs/<job_id:str>", control.job),
        ("GET", "/version", control.version),
        ("GET", "/metrics", control.metrics),
        ("GET", "/openapi.json", _openapi),
        ("GET", "/v1/models", models.list),
        ("GET", "/v1/models/<model_id:path>", models.one),
        ("POST", "/v1/chat/completions", inference.infer),
        ("POST", "/v1/completions", inference.infer),
        ("POST", "/v1/embeddings", inference.infer),
        ("POST", "/v1/rerank", inference.infer),
        ("POST", "/v1/chat/completions/input_tokens", tokens.handle),
        ("POST", "/tokenize", tokens.handle),
        ("POST", "/detokenize", tokens.handle),
        ("POST", "/apply-template", tokens.handle),
    ):
        web.route(app, method, path, guard.protecting(handler))
    web.route(app, "GET", "/health", guard.health(control.health))


async def _openapi(_request: Request) -> HTTPResponse:
    return web.json(await asyncio.to_thread(_description))


def _description() -> dict[str, Any]:
    from cortex.neuron.api.openapi import description  # seldom asked for, and no small import

    return description()

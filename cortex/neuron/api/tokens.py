"""`/tokenize`, `/detokenize`, `/apply-template` and `/v1/chat/completions/input_tokens`: what a model makes of a text, without an answer.

They take none of a loaded model's places. A model that is not loaded answers through its vocabulary alone, so that
nobody loads gigabytes to count; how it would be loaded may then be told in `load` (a load request; the gateway does).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from sanic import Request
from sanic.response import HTTPResponse

from cortex import errors, web
from cortex.errors import CortexError
from cortex.net.errors import IdleTimeout, NetError
from cortex.net.pool import Pool
from cortex.neuron.engine.process import EngineProcess
from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.harness.base import Harness
from cortex.neuron.models.loading import Loaded, Loader
from cortex.neuron.models.registry import Registry
from cortex.neuron.models.source import LocalModel, NeedsFetch, resolve
from cortex.neuron.models.vocabulary import Vocabularies
from cortex.wire.fields import Value, request_of, written
from cortex.wire.fleet import LoadRequest, ModelStatus

ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
MOST_SLOTS = 256  # of a model that is not loaded: `n` is bounded by what it may have
SILENCE_S = 30.0  # a text of some megabytes is split within seconds
_CHAT = "/v1/chat/completions"
_JSON = (("content-type", "application/json"),)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Who answers. `spec` is what requests are held against; `cold`: the engine has the vocabulary alone."""

    engine: EngineProcess
    harness: Harness
    spec: EngineSpec
    cold: bool = False

    def prepared(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The body as the engine would get it with a request for an answer: that is what is counted."""
        return self.harness.prepare(_CHAT, body, self.spec).body if path in _OF_CHATS else body

    def refusal(self, status: int, body: bytes) -> CortexError:
        if b"_M_range_check" in body:  # its own words for a token that it does not have
            return errors.invalid_request(
                f"tokens: an id lies beyond the vocabulary of '{self.spec.alias}'", param="tokens"
            )
        error = self.harness.engine_error(status, body)
        if self.cold and error.code == "vision_unsupported":
            return errors.unavailable(
                f"the images of this request can be counted only while '{self.spec.alias}' is loaded",
                code="model_loading",
            )
        return error


class TokensApi:
    def __init__(self, registry: Registry, loader: Loader, vocabularies: Vocabularies, pool: Pool) -> None:
        self._registry = registry
        self._loader = loader
        self._vocabularies = vocabularies
        self._pool = pool

    async def handle(self, request: Request) -> HTTPResponse:
        """The engine's own answer."""
        body = web.json_object(request)
        if not isinstance(model := body.get("model"), str) or not model:
            raise errors.missing_model_field()
        request.ctx.fields["model"] = model
        asked = _load_request(model, body.pop("load", None))
        if check := _CHECKS.get(request.path):
            check(request_of(body))
        async with self._reader(asked) as reader:
            return web.json_bytes(await self._ask(reader, request.path, body))

    @contextlib.asynccontextmanager
    async def _reader(self, asked: LoadRequest) -> AsyncIterator[_Reader]:
        """The model's engine; its vocabulary while it is not loaded; and the engine again where the file is only just coming."""
        slot = self._registry.slots.get(asked.model_id)
        if slot and slot.status is ModelStatus.loaded and slot.loaded:
            yield _of(slot.loaded)
        elif model := self._on_disk(asked):
            async with self._cold(model, asked) as reader:
                yield reader
        else:
            slot = self._registry.slot(asked.model_id)
            yield _of(await slot.ready(self._registry.wait_s(slot)))

    def _on_disk(self, asked: LoadRequest) -> LocalModel | None:
        try:
            found = resolve(asked.source or asked.model_id, asked.quant, self._loader.library.models)
        except CortexError:
            return None
        return None if isinstance(found, NeedsFetch) else found.model

    @contextlib.asynccontextmanager
    async def _cold(self, model: LocalModel, asked: LoadRequest) -> AsyncIterator[_Reader]:
        request = self._registry.with_profile(asked)
        harness = self._loader.harnesses.chosen(request, model)
        async with self._vocabularies.use(model, harness, request.chat_template) as engine:
            spec = replace(
                engine.spec,
                mode=harness.mode(model.header, request),
                mmproj=str(model.mmproj) if model.mmproj else None,
                parallel=request.parallel or MOST_SLOTS,
            )
            yield _Reader(engine, harness, spec, cold=True)

    async def _ask(self, reader: _Reader, path: str, body: dict[str, Any]) -> bytes:
        payload = written(reader.prepared(path, body))
        try:
            async with await self._pool.open(
                reader.engine.address, "POST", path, headers=_JSON, body=payload, head_timeout_s=SILENCE_S
            ) as exchange:
                answer = await exchange.read_all(ANSWER_LIMIT_BYTES, SILENCE_S)
        except IdleTimeout as error:
            raise errors.upstream_stalled(error.seconds) from error
        except NetError as error:
            raise errors.upstream_failed(
                f"the engine of model '{reader.spec.alias}' broke off", code="engine_failed"
            ) from error
        if exchange.status != 200:
            raise reader.refusal(exchange.status, answer)
        return answer


def _of(loaded: Loaded) -> _Reader:
    return _Reader(loaded.engine, loaded.harness, loaded.spec)


def _load_request(model: str, settings: Any) -> LoadRequest:
    if not isinstance(settings, dict | None):
        raise errors.invalid_request("'load' must be an object, as /models/load takes it", param="load")
    return web.parse(LoadRequest, {**(settings or {}), "model_id": model})


# ---- what the engine would take as it comes


def _check_tokenize(body: Value) -> None:
    body["content"].text()
    for flag in ("add_special", "parse_special", "with_pieces"):
        if body[flag].given:
            body[flag].flag()


def _check_detokenize(body: Value) -> None:
    tokens = body["tokens"]
    if not isinstance(tokens.raw, list):
        raise tokens.wrong("an array of token ids")
    for token in tokens:
        token.integer(0)


_CHECKS = {"/tokenize": _check_tokenize, "/detokenize": _check_detokenize}
_OF_CHATS = ("/apply-template", "/v1/chat/completions/input_tokens")

"""The routes of requests to models: OpenAI's, which are passed on, the dialects that are translated, and questions about a vocabulary."""

from __future__ import annotations

from cortex.gateway.api.fitting import Fitting
from cortex.gateway.api.inference import InferenceApi
from cortex.gateway.api.messages import MessagesApi
from cortex.gateway.api.models import ModelsApi
from cortex.gateway.api.ollama import OllamaApi
from cortex.gateway.api.responses import ResponsesApi
from cortex.gateway.api.tokens import TokensApi
from cortex.gateway.fleet.lifecycle import Lifecycle
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.images.inline import Images
from cortex.gateway.keys.charges import Charges
from cortex.gateway.live import Live
from cortex.gateway.proxy.call import Names
from cortex.gateway.proxy.dispatch import Dispatcher
from cortex.gateway.proxy.tokens import Tokens
from cortex.gateway.response_store import ResponseStore
from cortex.web import Handler


def dialect_routes(
    dispatcher: Dispatcher,
    tokens: Tokens,
    names: Names,
    charges: Charges,
    models: ModelsApi,
    lifecycle: Lifecycle,
    fleet: Fleet,
    live: Live,
    store: ResponseStore,
) -> tuple[tuple[str, str, Handler], ...]:
    """(method, path, handler)"""
    images = Images(lambda: live.config.images)
    inference = InferenceApi(dispatcher, names, images)
    messages = MessagesApi(dispatcher, tokens, names, charges, images)
    responses = ResponsesApi(dispatcher, names, store, images)
    reading = TokensApi(tokens, names, charges, images)
    ollama = OllamaApi(dispatcher, names, charges, models, lifecycle, fleet, live)
    fitting = Fitting(models)
    routes: tuple[tuple[str, str, Handler], ...] = (
        ("POST", "/v1/chat/completions", inference.forward),
        ("POST", "/v1/completions", inference.forward),
        ("POST", "/v1/embeddings", inference.forward),
        ("POST", "/v1/rerank", inference.forward),
        ("POST", "/v1/messages", messages.create),
        ("POST", "/v1/messages/count_tokens", messages.count),
        ("POST", "/v1/responses", responses.create),
        ("GET", "/v1/responses/<response_id:str>", responses.retrieve),
        ("DELETE", "/v1/responses/<response_id:str>", responses.delete),
        ("GET", "/v1/responses/<response_id:str>/input_items", responses.input_items),
        ("POST", "/v1/chat/completions/input_tokens", reading.forward),
        ("POST", "/tokenize", reading.forward),
        ("POST", "/detokenize", reading.forward),
        ("POST", "/apply-template", reading.forward),
        ("GET", "/api/version", ollama.version),
        ("GET", "/api/tags", ollama.tags),
        ("GET", "/api/ps", ollama.ps),
        ("POST", "/api/show", ollama.show),
        ("POST", "/api/chat", ollama.chat),
        ("POST", "/api/generate", ollama.generate),
        ("POST", "/api/embed", ollama.embed),
        ("POST", "/api/embeddings", ollama.embeddings),
    )
    return tuple((method, path, fitting.naming(handler)) for method, path, handler in routes)

"""What every dialect does with its call: the fleet answers it into a sink, and a neuron's refusal becomes an error like any other."""

from __future__ import annotations

from typing import Any

from sanic import Request

from cortex.gateway.api.gate import principal_of
from cortex.gateway.api.inference import tell
from cortex.gateway.api.reading import reading
from cortex.gateway.proxy.call import Call, Names, new_call
from cortex.gateway.proxy.dispatch import ClientSink, Dispatcher
from cortex.gateway.proxy.journey import NeuronAnswer

CHAT_PATH = "/v1/chat/completions"


async def call_of(request: Request, path: str, payload: dict[str, Any], names: Names) -> Call:
    """The call of our own that stands for `request`. Raises CortexError."""
    headers = list(request.headers.items())
    return await reading(request, new_call, path, payload, headers, request.ctx.id, names, principal_of(request))


async def answered(dispatcher: Dispatcher, request: Request, call: Call, sink: ClientSink) -> None:
    """Raises CortexError while nothing was sent."""
    request.ctx.fields["model"] = call.model_id
    try:
        tell(request.ctx.fields, await dispatcher.answer(call, sink))
    except NeuronAnswer as answer:
        request.ctx.fields["node"] = answer.node
        raise answer.error from answer

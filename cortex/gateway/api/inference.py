"""OpenAI's inference endpoints: read what routing needs, pass the rest on as it came."""

from __future__ import annotations

from sanic import Request
from sanic.response import HTTPResponse

from cortex.gateway.api.fitting import WRONG_MODALITY
from cortex.gateway.api.gate import principal_of
from cortex.gateway.api.reading import reading
from cortex.gateway.images.inline import Images
from cortex.gateway.proxy.call import Names, read_call
from cortex.gateway.proxy.dispatch import Dispatcher
from cortex.gateway.proxy.journey import Journey, NeuronAnswer
from cortex.web import SanicSink


class InferenceApi:
    """One handler for every path that is passed on verbatim: the neuron has the same paths."""

    def __init__(self, dispatcher: Dispatcher, names: Names, images: Images) -> None:
        self._dispatcher = dispatcher
        self._names = names
        self._images = images

    async def forward(self, request: Request) -> HTTPResponse | None:
        context = request.ctx
        call = await reading(
            request,
            read_call,
            request.path,
            request.headers.items(),
            await self._images.inlined_bytes(request.body),
            context.id,
            self._names,
            principal_of(request),
        )
        context.fields["model"] = call.model_id
        try:
            journey = await self._dispatcher.answer(call, SanicSink(request))
        except NeuronAnswer as answer:
            context.fields["node"] = answer.node
            if answer.error.code == WRONG_MODALITY:
                raise answer.error from answer
            return passed_on(answer)
        tell(context.fields, journey)
        return None


def passed_on(answer: NeuronAnswer) -> HTTPResponse:
    """A neuron's error with its status, headers and body."""
    headers = dict(answer.headers)
    headers.pop("content-length", None)
    content_type = headers.pop("content-type", "application/json")
    return HTTPResponse(answer.body, status=answer.status, headers=headers, content_type=content_type)


def tell(fields: dict[str, object], journey: Journey) -> None:
    """What the request's log line says about its end."""
    if journey.replica:
        fields["node"] = journey.replica.node
    if totals := journey.totals:
        fields["prompt_tokens"] = totals.prompt_tokens
        fields["completion_tokens"] = totals.completion_tokens
        fields["finish_reason"] = totals.finish_reason
        if totals.first_token_s is not None:
            fields["first_token_ms"] = round(totals.first_token_s * 1000, 1)

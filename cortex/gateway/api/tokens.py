"""`/tokenize`, `/detokenize`, `/apply-template`, `/v1/chat/completions/input_tokens`: the neuron has the same paths."""

from __future__ import annotations

from sanic import Request
from sanic.response import HTTPResponse

from cortex import web
from cortex.gateway.api.inference import passed_on
from cortex.gateway.api.translated import call_of
from cortex.gateway.images.inline import Images
from cortex.gateway.keys.charges import Charges
from cortex.gateway.proxy.call import Names
from cortex.gateway.proxy.journey import NeuronAnswer
from cortex.gateway.proxy.tokens import Tokens


class TokensApi:
    def __init__(self, tokens: Tokens, names: Names, charges: Charges, images: Images) -> None:
        self._tokens = tokens
        self._charges = charges
        self._images = images
        self._names = names

    async def forward(self, request: Request) -> HTTPResponse:
        body = web.json_object(request)
        body.pop("load", None)  # between gateway and neuron: no client chooses how a model is loaded
        call = await call_of(request, request.path, await self._images.inlined(body), self._names)
        request.ctx.fields["model"] = call.model_id
        try:
            async with self._charges.asking(call.principal):
                return web.json_bytes(await self._tokens.ask(request.path, call))
        except NeuronAnswer as answer:
            return passed_on(answer)

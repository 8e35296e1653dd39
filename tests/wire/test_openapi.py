"""The OpenAPI documents against the code that reads requests and against recorded answers: neither may know more than the other."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from helpers.described import Api
from helpers.schema_values import ODD, Values
from openai.types.chat import ChatCompletion
from openai.types.responses import Response as OpenAiResponse

from cortex.errors import CortexError
from cortex.gateway.api.openapi import description as of_gateway
from cortex.neuron.api.openapi import description as of_neuron
from cortex.neuron.harness import requests as rules
from cortex.wire import anthropic, ollama, responses
from cortex.wire.sse import data_of

GATEWAY = Api(of_gateway())
RECORDED = Path(__file__).parent / "recorded"
SAYS = {"role": "user", "content": "hi"}
READERS: dict[str, tuple[Callable[[Any], object], dict[str, Any]]] = {
    "MessagesRequest": (anthropic.to_chat, {"model": "m", "max_tokens": 5, "messages": [SAYS]}),
    "CountTokensRequest": (anthropic.count_to_chat, {"model": "m", "messages": [SAYS]}),
    "ResponsesRequest": (responses.to_chat, {"model": "m", "input": "hi"}),
    "OllamaChatRequest": (ollama.read_chat, {"model": "m", "messages": [SAYS]}),
    "OllamaGenerateRequest": (ollama.read_generate, {"model": "m", "prompt": "hi"}),
    "OllamaEmbedRequest": (lambda body: ollama.read_embed(body, "input"), {"model": "m", "input": "hi"}),
    "OllamaEmbeddingsRequest": (lambda body: ollama.read_embed(body, "prompt"), {"model": "m", "prompt": "hi"}),
}
FIELDS = [(name, field) for name in READERS for field in GATEWAY.schemas[name]["properties"]]


@pytest.mark.parametrize("document", [of_gateway(), of_neuron()], ids=["gateway", "neuron"])
def test_every_reference_leads_somewhere(document):
    """Components are there for every reference, and no component is there for nothing."""
    told = json.dumps(document)
    for kind in ("schemas", "responses"):
        for name in document["components"][kind]:
            assert f'"#/components/{kind}/{name}"' in told
    assert json.loads(told) == document


def _refusal(read, body):
    try:
        read(body)
    except CortexError as error:
        return error.message
    return None


def _candidates(schema, seed):
    """Values that fit, that almost do, and odd ones; 5.0 is an integer for JSON Schema alone."""
    values = Values(random.Random(seed), GATEWAY.schemas, {})
    made = [*ODD, *(values.fitting(schema) for _ in range(40)), *(values.spoilt(schema) for _ in range(40))]
    return [value for value in made if not (isinstance(value, float) and value.is_integer())]


# What a request may say and is refused all the same: it speaks of what is not here, or of another field of the request.
ELSEWHERE = ("not stored", "no tool can be called", "one of the request's", "nested too deeply", "stored here")


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_a_field_is_what_the_document_says(name, field):
    """No value that the document allows in a field is refused for its form, however odd; what is refused does not fit."""
    read, body = READERS[name]
    schema = GATEWAY.schemas[name]["properties"][field]
    for value in _candidates(schema, f"{name}.{field}"):
        misfit = GATEWAY.misfit(schema, value)
        refusal = _refusal(read, body | {field: value})
        if refusal and not any(words in refusal for words in ELSEWHERE):
            assert misfit, f"{value!r} fits, and is refused: {refusal}"


@pytest.mark.parametrize("field", sorted(rules.CHAT))
def test_the_rules_of_a_chat_are_those_of_the_document(field):
    """A value that the neuron's rules refuse does not fit, and one that they take does."""
    schema, rule = GATEWAY.schemas["ChatRequest"]["properties"][field], rules.CHAT[field]
    for value in _candidates(schema, field):
        if value is not None:
            assert bool(rule(value)) == bool(GATEWAY.misfit(schema, value)), (value, rule(value))


ASK = {"model": "m", "max_tokens": 5, "messages": [SAYS], "input": "hi"}
OLLAMA = ollama.read_chat({"model": "m", "messages": [SAYS]})


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_recorded_answers_fit(path):
    """What a real engine said, and what every dialect makes of it, is as the document tells; also as the vendors' SDKs have read it."""
    answer = json.loads(path.read_bytes())
    message, response = anthropic.from_chat(answer, request=ASK), responses.from_chat(answer, request=ASK)
    for name, told in (
        ("Message", message),
        ("Message", AnthropicMessage.model_validate(message).model_dump(mode="json", exclude_unset=True)),
        ("Response", response),
        ("Response", OpenAiResponse.model_validate(response).model_dump(mode="json", exclude_unset=True)),
        ("ChatCompletion", answer),
        ("ChatCompletion", ChatCompletion.model_validate(answer).model_dump(mode="json", exclude_unset=True)),
        ("OllamaChat", ollama.from_completion(answer, OLLAMA, ollama.Clock())),
    ):
        assert GATEWAY.misfit(GATEWAY.schemas[name], told) is None, name


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.sse")), ids=lambda path: path.stem)
def test_recorded_streams_fit(path):
    """Every event and line that the dialects make of a real engine's stream is as the document tells."""
    said = path.read_bytes()
    message = anthropic.StreamTranslator(ASK, input_tokens=1)
    response = responses.StreamTranslator(ASK)
    lines = ollama.StreamTranslator(OLLAMA)
    for name, events in (
        ("MessageEvent", data_of(message.start() + message.push(said) + message.end())),
        ("ResponseEvent", data_of(response.start() + response.push(said) + response.end())),
        ("OllamaChatLine", (lines.push(said) + lines.end()).splitlines()),
    ):
        told = [json.loads(event) for event in events]
        assert told
        for event in told:
            assert GATEWAY.misfit(GATEWAY.schemas[name], event) is None, (name, event)

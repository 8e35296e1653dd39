"""Every row of `cortex.wire.error_table` over HTTP, in every dialect: said by a neuron before the answer and in its middle, and by the gateway itself."""

import asyncio
import hashlib
import json
from typing import Any

import orjson
import pytest
from helpers.described import Api
from helpers.fake_neuron import FakeNeuron, answer, chunk, hang, reset
from helpers.gateways import gateway

from cortex.gateway.api.openapi import description
from cortex.wire.error_table import ROWS

SAYS = {"role": "user", "content": "hi"}
# dialect → (path, body)
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"model": "org/m", "messages": [SAYS]}),
    "anthropic": ("/v1/messages", {"model": "org/m", "max_tokens": 8, "messages": [SAYS]}),
    "responses": ("/v1/responses", {"model": "org/m", "input": "hi"}),
    "ollama": ("/api/chat", {"model": "org/m", "messages": [SAYS]}),
}
SCHEMAS = {"openai": "OpenAiError", "anthropic": "AnthropicError", "responses": "OpenAiError", "ollama": "OllamaError"}
ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
# A neuron that contradicts itself, or does not know this gateway, is no client's mistake: what is heard of it instead.
INSTEAD = {"model_not_found": "service_unavailable", "invalid_api_key": "upstream_connection_error"}
API = Api(description())


def said(code):
    """A neuron's error object, with a detail of its own."""
    return {"message": f"it is {code}.", "type": ROWS[code].type, "code": code, "param": None, "detail": 7}


def behaviour(code):
    row = ROWS[code]
    wait = {"retry_after": str(int(row.retry_after))} if row.retry_after else {}
    return answer(row.status, orjson.dumps({"error": said(code)}), **wait)


def check(dialect, answered, code):
    """The row's status, envelope, type, code, and `Retry-After` exactly where trying again may help."""
    row = ROWS[code]
    assert answered.status_code == row.status, (dialect, code, answered.text)
    assert ("retry-after" in answered.headers) == (row.retry_after is not None), (dialect, code)
    assert answered.headers["content-type"] == "application/json"
    assert API.misfit(API.schemas[SCHEMAS[dialect]], answered.json()) is None, (dialect, code, answered.text)
    assert answered.headers["x-request-id"]
    check_body(dialect, answered.json(), code, answered.status_code)
    if dialect == "anthropic":
        assert answered.json()["request_id"] == answered.headers["request-id"]
    assert ("www-authenticate" in answered.headers) == (answered.status_code == 401)


def check_body(dialect, body, code, status):
    if dialect == "anthropic":
        kind = ANTHROPIC.get(status, "invalid_request_error" if status < 500 else "api_error")
        assert body["error"]["type"] == kind, code
        overflow = body["error"]["message"].startswith("prompt is too long")
        assert overflow == (code == "context_length_exceeded")
    elif dialect != "ollama":
        assert body["error"]["code"] == code


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", ASKS)
def test_what_a_neuron_refuses(dialect, streamed):
    """A neuron's refusal before the first byte is the client's in its own dialect, streamed or not, with the neuron's details."""
    path, body = ASKS[dialect]

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            for code in ROWS:
                beast.chat = behaviour(code)
                answered = await client.post(path, json=body | {"stream": streamed})
                check(dialect, answered, INSTEAD.get(code, code))
                if dialect in ("openai", "responses") and code not in INSTEAD:
                    assert answered.json()["error"]["detail"] == 7
                elif code not in INSTEAD:
                    assert said(code)["message"] in answered.text

    asyncio.run(scenario())


def last_of(text):
    """The last thing that a stream says, as JSON."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith(("data: ", "{"))]
    return json.loads(lines[-1])


def responses_code(code):
    row = ROWS[code]
    if code in ("context_length_exceeded", "insufficient_quota"):
        return code
    if row.status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if row.status < 500 else "server_error"


@pytest.mark.parametrize("dialect", ASKS)
def test_what_ends_a_stream(dialect):
    """An error in the middle of an answer ends the stream in its dialect's own way, and names the same."""
    path, body = ASKS[dialect]

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            for code, row in ROWS.items():
                error = b"data: " + orjson.dumps({"error": said(code)}) + b"\n\n"
                beast.events = (chunk({"role": "assistant", "content": ""}), chunk({"content": "Par"}), error)
                answered = await client.post(path, json=body | {"stream": True})
                assert answered.status_code == 200
                last = last_of(answered.text)
                if dialect == "responses":
                    assert last["type"] == "response.failed"
                    assert last["response"]["error"]["code"] == responses_code(code)
                    told = last["response"]["error"]["message"]
                    assert ("try again in" in told) == (row.retry_after is not None), code
                else:
                    assert API.misfit(API.schemas[SCHEMAS[dialect]], last) is None
                    check_body(dialect, last, code, row.status)
                assert "Par" in answered.text

    asyncio.run(scenario())


KEYS: dict[str, dict[str, Any]] = {
    "narrow": {"models": ["other"]},
    "few": {"requests_per_minute": 1},
    "poor": {"hard_cap": 1},
    "any": {},
}


def entitlements(folder):
    keys = [
        {"sha256": hashlib.sha256(name.encode()).hexdigest(), "account_id": name, **limits}
        for name, limits in KEYS.items()
    ]
    return {"require_auth": True, "keys": keys, "database": str(folder / "ledger.sqlite")}


@pytest.mark.parametrize("dialect", ASKS)
def test_what_the_gateway_says_itself(dialect, tmp_path):
    """Unreadable requests, unknown names, keys and their limits, and neurons that fail: each row with its envelope."""
    path, body = ASKS[dialect]

    async def scenario():
        async with (
            FakeNeuron("beast", {"org/m": "loaded"}) as beast,
            gateway(
                [beast],
                entitlements=entitlements(tmp_path),
                max_body_mb=1,
                idle_timeout_secs=0.2,
                load_timeout_secs=0.2,
            ) as client,
        ):

            async def ask(key="any", method="POST", **more):
                headers = {"authorization": f"Bearer {key}"} | more.pop("headers", {})
                return await client.request(method, path, **({"json": body} | more), headers=headers)

            def seen(answered, code):
                check(dialect, answered, code)

            seen(await ask(json=None, content=b"{"), "malformed_json")
            seen(await ask(json=None, content=b"[]"), "invalid_request_body")
            seen(await ask(json=body | {"x": "x" * 1_100_000}), "body_too_large")
            seen(await ask(headers={"x-long": "x" * 40_000}), "headers_too_large")
            seen(await ask(method="GET", json=None), "method_not_allowed")
            seen(await ask(json=body | {"model": "org/none"}), "model_not_found")
            seen(await ask("nobody"), "invalid_api_key")
            seen(await ask("narrow"), "permission_denied")
            seen(await ask("poor"), "insufficient_quota")
            assert (await ask("few", json=body | {"stream": False})).status_code == 200
            seen(await ask("few"), "rate_limit_exceeded")
            if dialect != "openai":  # there bytes are passed on as they are
                beast.chat = answer(200, b"nonsense")
                seen(await ask(json=body | {"stream": False}), "upstream_malformed_response")
            beast.chat = hang
            seen(await ask(json=body | {"stream": False}), "upstream_timeout")
            beast.chat = reset
            seen(await ask(), "upstream_connection_error")

    asyncio.run(scenario())

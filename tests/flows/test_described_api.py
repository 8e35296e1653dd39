"""What the roles say of their APIs (`/openapi.json`) is what they serve: the same routes, and answers as described."""

import asyncio
import re

import pytest
from helpers.described_fleet import EMBED, LEGACY, RANK, described_fleet, scripted_folder
from helpers.live import SCRIPTED
from sanic import Sanic

pytestmark = pytest.mark.model
SAYS = {"role": "user", "content": "[[text]] hi"}
THINK = {"role": "user", "content": "[[think]]"}
CHAT = {"model": SCRIPTED, "messages": [SAYS], "max_tokens": 4}
WEATHER = {"name": "get_weather", "parameters": {"type": "object"}}
CALLING = CHAT | {
    "messages": [{"role": "user", "content": "weather"}],
    "tools": [{"type": "function", "function": WEATHER}],
}
MESSAGE = {"model": SCRIPTED, "max_tokens": 4, "messages": [SAYS]}
STREAM = {"stream": True}
# (method, path as described, path, body)
INFERENCE = [
    *(
        ("POST", "/v1/chat/completions", None, CHAT | more)
        for more in (
            {},
            STREAM,
            CALLING,
            CALLING | STREAM,
            {"messages": [THINK]} | STREAM,
            {"logprobs": True, "top_logprobs": 2, "n": 2},
            STREAM | {"logprobs": True, "stream_options": {"include_usage": True}},
        )
    ),
    *(
        ("POST", "/v1/completions", None, {"model": SCRIPTED, "prompt": "x", "max_tokens": 2} | more)
        for more in ({}, STREAM, {"logprobs": 1}, {"prompt": ["a", [1, 2]]})
    ),
    *(
        ("POST", "/v1/embeddings", None, {"model": EMBED, "input": texts, "encoding_format": form})
        for texts in ("x", ["a", "b"], [1, 2])
        for form in ("float", "base64")
    ),
    *(("POST", "/v1/chat/completions", None, CHAT | {"model": LEGACY} | more) for more in ({}, STREAM)),
    *(
        ("POST", "/v1/completions", None, {"model": LEGACY, "prompt": "x", "max_tokens": 2} | more)
        for more in ({}, STREAM)
    ),
    ("POST", "/v1/chat/completions/input_tokens", None, CHAT | {"model": LEGACY}),
    ("POST", "/v1/rerank", None, {"model": RANK, "query": "x", "documents": ["a", "b"]}),
    ("POST", "/v1/chat/completions/input_tokens", None, CHAT),
    ("POST", "/apply-template", None, CHAT),
    ("POST", "/tokenize", None, {"model": SCRIPTED, "content": "hi 日"}),
    ("POST", "/tokenize", None, {"model": SCRIPTED, "content": "hi 日", "with_pieces": True}),
    ("POST", "/detokenize", None, {"model": SCRIPTED, "tokens": [1, 2]}),
    ("GET", "/v1/models", None, None),
    ("GET", "/v1/models/{model_id}", f"/v1/models/{SCRIPTED}", None),
    ("GET", "/health", None, None),
    ("GET", "/version", None, None),
    ("GET", "/openapi.json", None, None),
    ("POST", "/models/load", None, {"model_id": SCRIPTED}),
]
TURN = {
    "tools": [{"name": "get_weather", "input_schema": {"type": "object"}}],
    "messages": [{"role": "user", "content": "weather"}],
}
GATEWAY = [
    *(
        ("POST", "/v1/messages", None, MESSAGE | more)
        for more in ({}, STREAM, TURN, TURN | STREAM, {"messages": [THINK]})
    ),
    ("POST", "/v1/messages", None, MESSAGE | STREAM | {"messages": [THINK]}),
    ("POST", "/v1/messages/count_tokens", None, MESSAGE),
    *(
        ("POST", "/v1/responses", None, {"model": SCRIPTED, "input": text, "max_output_tokens": bound} | more)
        for text in ("[[text]]", "[[think]]")
        for bound in (1, 8)
        for more in ({}, STREAM, {"reasoning": {"summary": "auto"}} | STREAM)
    ),
    *(
        ("POST", f"/api/{path}", None, {"model": SCRIPTED, **asked, "options": {"num_predict": 3}} | more)
        for path, asked in (("chat", {"messages": [SAYS]}), ("generate", {"prompt": "hi"}))
        for more in ({"stream": False}, {})
    ),
    ("POST", "/api/chat", None, {"model": SCRIPTED}),
    ("POST", "/api/embed", None, {"model": EMBED, "input": ["a", "b"]}),
    ("POST", "/api/embeddings", None, {"model": EMBED, "prompt": "a"}),
    ("POST", "/api/show", None, {"model": SCRIPTED}),
    *(("GET", f"/api/{path}", None, None) for path in ("version", "tags", "ps")),
    *(("GET", path, None, None) for path in ("/", "/api/hello", "/status")),
    *(("HEAD", path, None, None) for path in ("/", "/api/hello", "/health")),
    ("GET", "/plan", f"/plan?model={SCRIPTED}", None),
    ("POST", "/nodes/{name}/drain", "/nodes/local/drain", None),
    ("POST", "/nodes/{name}/undrain", "/nodes/local/undrain", None),
    ("POST", "/models/unload", None, {"model_id": RANK}),
    ("POST", "/models/load", None, {"model_id": RANK, "wait": False}),
]
NEURON = [
    *(("GET", path, None, None) for path in ("/discovery", "/models", "/jobs", "/metrics")),
    ("GET", "/models", "/models?all=true", None),
    ("GET", "/models/{model_id}/endpoint", f"/models/{SCRIPTED}/endpoint", None),
    ("POST", "/models/unload", None, {"model_id": EMBED}),
    ("POST", "/models/load", None, {"model_id": EMBED, "mode": "embedding", "wait": False}),
    ("POST", "/models/keep", None, {"model_id": SCRIPTED, "ttl": 60}),
    ("POST", "/models/yield", None, {"model_id": SCRIPTED, "to": SCRIPTED, "seconds": 0.001}),
    ("POST", "/drain", None, None),
    ("POST", "/undrain", None, None),
]
# What one neuron at rest has not: kept responses, neurons that join, files on their way; and a job, which is asked for by its id below.
NOT_HERE = {
    "/v1/responses/{response_id}",
    "/v1/responses/{response_id}/input_items",
    "/neurons/join",
    "/neurons/leave",
    "/models/push",
    "/models/{model_id}/files",
    "/models/{model_id}/files/{sha256}",
    "/jobs/{job_id}",
}


def _served(role):
    """(method, path) of the application's routes, as OpenAPI writes paths."""
    app = next(app for name, app in Sanic._app_registry.items() if name.startswith(f"cortex-{role}-"))
    return {
        (method, "/" + re.sub(r"<(\w+):\w+>", r"{\1}", route.path.strip("/")))
        for route in app.router.routes
        for method in route.methods
    }


@pytest.fixture(name="folder")
def _folder(scripted_model, tmp_path):
    return scripted_folder(scripted_model, tmp_path / "models")


def test_every_route_is_described_and_no_other(folder):
    """The routers' routes are those of the documents."""

    async def scenario():
        async with described_fleet(folder, models=()) as roles:
            for role in roles:
                assert {(each.method, each.path) for each in role.api.operations} == _served(role.name)

    asyncio.run(scenario())


def test_answers_are_as_described(folder):
    """Real models' answers fit the document, in every dialect and form; every described success is seen."""

    async def scenario():
        async with described_fleet(folder) as (gateway, neuron):
            for role, asked in ((gateway, INFERENCE + GATEWAY), (neuron, INFERENCE + NEURON)):
                missing = _successes(role.api)
                for method, described, path, body in asked:
                    answer = await role.live.http.request(method, path or described, json=body)
                    operation = role.api.operation(method, described)
                    kind = answer.headers.get("content-type", "") if method != "HEAD" else ""
                    assert answer.status_code < 400, (role.name, described, answer.text)
                    wrong = role.api.complaint(operation, answer.status_code, kind, answer.content)
                    assert wrong is None, (role.name, described, body, wrong, answer.text)
                    missing.discard((method, described, answer.status_code, kind.partition(";")[0]))
                assert missing == set()
            (job, *_) = await neuron.live.get("/jobs")
            for role in (gateway, neuron):
                told = await role.live.http.get(f"/jobs/{job['id']}?wait=1")
                assert (
                    role.api.complaint(
                        role.api.operation("GET", "/jobs/{job_id}"), 200, "application/json", told.content
                    )
                    is None
                )

    asyncio.run(scenario())


def _successes(api):
    return {
        (operation.method, operation.path, int(status), kind)
        for operation in api.operations
        if operation.path not in NOT_HERE
        for status, answer in operation.told["responses"].items()
        if int(status) < 300
        for kind in answer.get("content", ("",))
    }

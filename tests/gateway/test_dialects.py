"""/v1/messages and /v1/responses in front of neurons that do what they are told."""

import asyncio
import json
from typing import Any

import pytest
from helpers.fake_neuron import FakeNeuron, answer, chunk, cut_after, hang, hold_at
from helpers.gateways import gateway
from helpers.waiting import until

from cortex.gateway.proxy import sinks
from cortex.tasks import running

ASK = {"model": "org/m", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
INPUT = {"model": "org/m", "input": "hi"}
ALL: list[tuple[str, dict[str, Any]]] = [("/v1/messages", ASK), ("/v1/responses", INPUT)]


def events_of(text):
    """(name, data) of each event; the name is its data's type."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            data = json.loads(lines["data"])
            assert data["type"] == lines["event"]
            found.append((lines["event"], data))
    return found


def names(text):
    return [name for name, _ in events_of(text)]


def test_a_message_and_its_stream():
    """The query and the betas change nothing; the model is asked in chat completions; the prompt was counted for message_start."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            headers = {"anthropic-version": "2031-01-01", "anthropic-beta": "a,b"}
            whole = await client.post("/v1/messages?beta=true", json=ASK, headers=headers)
            assert whole.json()["content"] == [{"type": "text", "text": "Paris"}]
            assert whole.headers["request-id"] == whole.headers["x-request-id"]
            assert whole.headers["x-cortex-node"] == "beast"
            assert "x-upstream" not in whole.headers
            streamed = await client.post("/v1/messages?beta=true", json=ASK | {"stream": True}, headers=headers)
            assert streamed.headers["request-id"]
            told = events_of(streamed.text)
            assert [name for name, _ in told] == [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
            ]
            assert told[0][1]["message"]["usage"]["input_tokens"] == 42
            usage = told[-2][1]["usage"]
            assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (5, 2)
            assert [sent.path for sent in beast.sent] == ["/v1/chat/completions"] * 2
            assert beast.sent[1].json["stream_options"] == {"include_usage": True}

    asyncio.run(scenario())


def test_a_response_and_its_stream():
    """The official sequence, numbered, and the same output whole."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            whole = (await client.post("/v1/responses", json=INPUT)).json()
            assert whole["output"][0]["content"][0]["text"] == "Paris"
            told = events_of((await client.post("/v1/responses", json=INPUT | {"stream": True})).text)
            assert [data["sequence_number"] for _, data in told] == list(range(len(told)))
            assert [told[0][0], told[1][0], told[-1][0]] == [
                "response.created",
                "response.in_progress",
                "response.completed",
            ]
            assert told[-1][1]["response"]["output"][0]["content"][0]["text"] == "Paris"

    asyncio.run(scenario())


def test_what_would_need_a_memory_is_refused():
    """Responses are not stored: a clear 400 says what to send instead."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            for more in ({"previous_response_id": "resp_1"}, {"store": True}):
                answered = await client.post("/v1/responses", json=INPUT | more)
                assert answered.status_code == 400
                assert "not stored" in answered.json()["error"]["message"]
            assert not beast.sent

    asyncio.run(scenario())


@pytest.mark.parametrize(("path", "body"), ALL)
def test_a_stream_lives_while_its_model_loads(path, body):
    """Bytes and then the answer come on one stream; the load is the only one."""

    async def scenario():
        async with (
            FakeNeuron("beast", {"org/m": "unloaded"}) as beast,
            gateway([beast], keepalive_secs=0.01) as client,
        ):
            beast.load_gate.clear()
            async with client.stream("POST", path, json=body | {"stream": True}) as streamed:
                assert streamed.status_code == 200
                lines = streamed.aiter_lines()
                assert await anext(lines) is not None
                beast.load_gate.set()
                rest = "\n".join([line async for line in lines])
            assert "Par" in rest
            assert len(beast.loads) == 1

    asyncio.run(scenario())


def test_a_failed_load_ends_the_stream_with_an_error():
    """Each dialect has its own last event, and none begins a message for it."""

    async def scenario():
        async with (
            FakeNeuron("beast", {"org/m": "unloaded"}) as beast,
            gateway([beast], keepalive_secs=0.01) as client,
        ):
            for path, body in ALL:
                beast.load_gate.clear()
                beast.models["org/m"] = {"id": "org/m", "status": "unloaded"}
                beast.load_failures["org/m"] = {"message": "the file is broken", "code": "unsupported_model"}
                async with client.stream("POST", path, json=body | {"stream": True}) as streamed:
                    lines = streamed.aiter_lines()
                    first = await anext(lines)
                    beast.load_gate.set()
                    text = "\n".join([first, *[line async for line in lines]])
                name, data = events_of(text)[-1]
                assert "the file is broken" in str(data)
                assert name == ("error" if path == "/v1/messages" else "response.failed")
                assert "message_start" not in text

    asyncio.run(scenario())


REFUSALS = [
    (404, "not_found_error", {"message": "no", "code": "other", "type": "invalid_request_error"}),
    (400, "invalid_request_error", {"message": "bad", "code": None, "type": "invalid_request_error"}),
    (429, "rate_limit_error", {"message": "full", "code": "rate_limit_exceeded", "type": "rate_limit_error"}),
    (422, "invalid_request_error", {"message": "x", "code": "wrong_modality", "type": "invalid_request_error"}),
]


@pytest.mark.parametrize(("status", "kind", "error"), REFUSALS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_neurons_refusal_arrives_in_the_dialect(status, kind, error, stream):
    """Status and words stay; the envelope is the client's."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            beast.chat = answer(status, json.dumps({"error": error}).encode())
            told = await client.post("/v1/messages", json=ASK | {"stream": stream})
            assert told.status_code == status
            body = told.json()
            assert (body["type"], body["error"]["type"]) == ("error", kind)
            assert body["request_id"] == told.headers["request-id"]
            assert ("retry-after" in told.headers) == (status == 429)
            told = await client.post("/v1/responses", json=INPUT | {"stream": stream})
            assert (told.status_code, told.json()["error"]["code"]) == (status, error["code"])

    asyncio.run(scenario())


def test_an_overflow_has_the_words_that_clients_look_for():
    """`prompt is too long` and 400: Claude Code compacts."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            error = {"message": "9 > 8", "code": "context_length_exceeded", "type": "invalid_request_error"}
            beast.chat = answer(400, json.dumps({"error": error}).encode())
            told = await client.post("/v1/messages", json=ASK | {"stream": True})
            assert told.status_code == 400
            assert told.json()["error"]["message"].startswith("prompt is too long")

    asyncio.run(scenario())


@pytest.mark.parametrize(("path", "body"), ALL)
@pytest.mark.parametrize(
    "broken",
    [
        chunk({"content": "Par"}),
        chunk({"content": "Par"}) + b"data: {nonsense}\n\n",
        chunk({"content": "Par"}) + b'data: {"error":{"message":"engine died","code":"engine_failed"}}\n\n',
    ],
    ids=["cut", "malformed", "told"],
)
def test_an_answer_that_breaks_off_ends_with_an_error_event(path, body, broken):
    """A cut, a malformed and a failed stream end well-formed: what was said stays, one error follows, nothing after it."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            beast.chat = cut_after(broken)
            told = events_of((await client.post(path, json=body | {"stream": True})).text)
            ends = [name for name, _ in told if name in ("error", "response.failed", "message_stop")]
            assert ends == ["error" if path == "/v1/messages" else "response.failed"]
            assert told[-1][0] == ends[0]
            assert any("Par" in str(data) for _, data in told)

    asyncio.run(scenario())


@pytest.mark.parametrize(("path", "body"), ALL)
def test_a_whole_answer_that_breaks_off_is_a_502(path, body):
    """Nothing was sent yet, so the failure has a status."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            for said in (b'{"choices": [', b"[]", b'{"choices": []}'):
                beast.chat = cut_after(said, "application/json") if said[-1:] == b"[" else answer(200, said)
                told = await client.post(path, json=body)
                assert told.status_code == 502, told.text

    asyncio.run(scenario())


@pytest.mark.parametrize(("path", "body"), ALL)
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_its_request(path, body, stream):
    """Before the first byte and after it: the neuron sees that nobody waits any more."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            beast.step = hold_at(2)
            if stream:
                async with client.stream("POST", path, json=body | {"stream": True}) as streamed:
                    await anext(streamed.aiter_lines())
            else:
                beast.chat = hang
                async with running(client.post(path, json=body), name="leaves") as leaving:
                    await until(lambda: beast.sent)
                    leaving.cancel()
            await until(lambda: beast.gone == 1)

    asyncio.run(scenario())


def test_a_count_that_fails_does_not_fail_the_message():
    """Where nobody counts, message_start has a quarter of the bytes, and message_delta what the engine says."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            beast.instead["/v1/chat/completions/input_tokens"] = answer(404, b'{"error": "no such path"}')
            told = events_of((await client.post("/v1/messages", json=ASK | {"stream": True})).text)
            guess = told[0][1]["message"]["usage"]["input_tokens"]
            assert guess == len(beast.sent[0].body) // 4
            assert told[-2][1]["usage"]["input_tokens"] == 5

    asyncio.run(scenario())


def test_tokens_are_counted_where_the_file_is_and_nothing_is_loaded():
    """A cold model is counted by a neuron that has its file, with the settings of its profile; a warm one where it is."""

    async def scenario():
        profile = {"models": [{"id": "org/m", "chat_template": "chatml"}, {"id": "org/nowhere"}]}
        async with (
            FakeNeuron("cold", {"org/m": "unloaded"}) as cold,
            FakeNeuron("warm", {"org/w": "loaded"}) as warm,
            gateway([cold, warm], profile) as client,
        ):
            counting = {key: value for key, value in ASK.items() if key != "max_tokens"}
            told = await client.post("/v1/messages/count_tokens?beta=true", json=counting)
            assert told.json() == {"input_tokens": 42}
            assert cold.counted[0]["load"] == {"harness": "auto", "chat_template": "chatml"}
            managed = counting | {"context_management": {"edits": []}}
            told = await client.post("/v1/messages/count_tokens", json=managed | {"model": "org/w"})
            assert told.json()["context_management"] == {"original_input_tokens": 42}
            assert "load" not in warm.counted[0]
            assert not cold.loads
            nowhere = await client.post("/v1/messages/count_tokens", json=counting | {"model": "org/nowhere"})
            assert (nowhere.status_code, "retry-after" in nowhere.headers) == (503, True)
            unknown = await client.post("/v1/messages/count_tokens", json=counting | {"model": "org/x"})
            assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")

    asyncio.run(scenario())


def test_a_client_cannot_say_how_a_model_is_loaded():
    """`load` is between gateway and neuron."""

    async def scenario():
        async with FakeNeuron("cold", {"org/m": "unloaded"}) as cold, gateway([cold]) as client:
            body = {"model": "org/m", "messages": [], "load": {"chat_template": "{{ mine }}"}}
            assert (await client.post("/v1/chat/completions/input_tokens", json=body)).status_code == 200
            assert "load" not in cold.counted[0]

    asyncio.run(scenario())


def test_the_probes_of_claude_code():
    """It asks whether anybody is there before it asks anything else."""

    async def scenario():
        async with FakeNeuron("beast") as beast, gateway([beast]) as client:
            for method, path in (("HEAD", "/"), ("HEAD", "/api/hello"), ("GET", "/api/hello")):
                assert (await client.request(method, path)).status_code == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(("path", "body"), ALL)
def test_mistakes_are_told_in_the_dialect(path, body):
    """What is no JSON, no object, without a model or of a wrong type: 4xx in the client's envelope."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            for content in (b"{", b"[]", b"{}", json.dumps(body | {"model": 3}).encode()):
                told = await client.post(path, content=content)
                assert 400 <= told.status_code < 500
                said = told.json()
                assert said["error"]["type"] == "invalid_request_error"
                assert ("request_id" in said) == (path == "/v1/messages")
            assert not beast.sent

    asyncio.run(scenario())


OLLAMA = {"model": "org/m", "messages": [{"role": "user", "content": "hi"}]}


def test_ollamas_stream_is_lines_and_its_errors_are_texts(monkeypatch):
    """NDJSON without comments, also while the model loads; what fails is one `error`, before the stream or as its last line."""
    monkeypatch.setattr(sinks, "EVENT_S", 0.05)

    async def scenario():
        async with (
            FakeNeuron("beast", {"org/m": "loaded", "org/cold": "unloaded"}) as beast,
            gateway([beast], keepalive_secs=0.01) as client,
        ):
            streamed = await client.post("/api/chat", json=OLLAMA)
            assert streamed.headers["content-type"] == "application/x-ndjson"
            lines = [json.loads(line) for line in streamed.text.splitlines()]
            assert "".join(line["message"]["content"] for line in lines) == "Paris"
            assert lines[-1]["done"]
            beast.load_failures["org/cold"] = {"message": "the file is broken", "code": "unsupported_model"}
            beast.load_gate.clear()
            async with client.stream("POST", "/api/chat", json=OLLAMA | {"model": "org/cold"}) as failing:
                assert failing.status_code == 200
                beast.load_gate.set()
                *_, last = [json.loads(line) async for line in failing.aiter_lines()]
            assert "the file is broken" in last["error"]
            unknown = await client.post("/api/chat", json=OLLAMA | {"model": "org/x"})
            assert (unknown.status_code, list(unknown.json())) == (404, ["error"])
            wrong = await client.post("/api/generate", content=b"{")
            assert (wrong.status_code, list(wrong.json())) == (400, ["error"])

    asyncio.run(scenario())

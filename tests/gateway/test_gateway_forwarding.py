"""A request's bytes go to a neuron and its answer's bytes come back, unchanged."""

import asyncio

import orjson
import pytest
from helpers.fake_neuron import CHAT_ANSWER, STREAM_EVENTS, FakeNeuron, answer, hang, hold_at
from helpers.gateways import Client, eventually, gateway
from helpers.waiting import until

from cortex.tasks import Tasks


def test_an_answer_comes_back_byte_for_byte():
    """Status, headers and body are the neuron's own, and the node is named."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            response = await client.chat()
            assert (response.status_code, response.content) == (200, CHAT_ANSWER)
            assert response.headers["x-upstream"] == "yes"
            assert response.headers["x-cortex-node"] == "beast"
            assert response.headers["x-request-id"].startswith("req_")

    asyncio.run(scenario())


def test_a_request_goes_up_byte_for_byte():
    """The body is not written anew, what belongs to the connection or to the client's identity stays here."""
    body = b'{"model" : "org/m",  "messages":[ ],"seed":12345678901234567890,"unknown":1.50}'

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            headers = {
                "authorization": "Bearer secret",
                "x-include-thinking": "true",
                "cookie": "a=b",
                "content-type": "application/json",
            }
            await client.post("/v1/chat/completions", content=body, headers=headers)
            [sent] = beast.sent
            assert sent.body == body
            assert sent.headers["x-include-thinking"] == "true"
            assert sent.headers["content-type"] == "application/json"
            assert not {"authorization", "cookie", "accept-encoding"} & sent.headers.keys()

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings", "/v1/rerank"])
def test_the_other_inference_paths_are_forwarded_too(path):
    """The neuron is asked on the path that the client used."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            assert (await client.post(path, json={"model": "org/m"})).content == CHAT_ANSWER
            assert beast.sent[0].path == path

    asyncio.run(scenario())


def test_a_stream_arrives_in_order_and_as_it_is_made():
    """Each event reaches the client before the neuron makes the next one."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            received = bytearray()

            async def the_client_has_all_before(number):
                await until(lambda: received == b"".join(STREAM_EVENTS[:number]))

            beast.step = the_client_has_all_before
            async with client.stream(
                "POST", "/v1/chat/completions", json={"model": "org/m", "stream": True}
            ) as response:
                assert response.headers["content-type"] == "text/event-stream"
                assert response.headers["x-accel-buffering"] == "no"
                assert response.headers["x-cortex-node"] == "beast"
                async for piece in response.aiter_raw():
                    received += piece
            assert bytes(received) == b"".join(STREAM_EVENTS)

    asyncio.run(scenario())


def test_a_client_that_leaves_frees_the_neuron():
    """The connection to the neuron is closed when the client's is, during a stream and before an answer."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            beast.step = hold_at(2)
            async with client.stream(
                "POST", "/v1/chat/completions", json={"model": "org/m", "stream": True}
            ) as response:
                await anext(response.aiter_raw())
            await until(lambda: beast.gone == 1)
            beast.chat = hang
            tasks = Tasks("test")
            waiting = tasks.start("wait", client.chat())
            await until(lambda: len(beast.sent) == 2)
            waiting.cancel()
            await until(lambda: beast.gone == 2)

    asyncio.run(scenario())


def test_an_alias_is_rewritten_to_its_model():
    """Upstream the model is the concrete id, and everything else of the body is there."""

    async def scenario():
        catalogue = {"aliases": {"small": "org/m"}}
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast], catalogue) as client:
            assert (await client.chat("small", temperature=0.5)).status_code == 200
            assert beast.sent[0].json == {"model": "org/m", "messages": [], "temperature": 0.5}
            listed = {entry["id"]: entry for entry in (await client.get("/v1/models")).json()["data"]}
            assert listed["small"] == listed["org/m"] | {"id": "small", "display_name": "small"}
            assert listed["org/m"]["aliases"] == ["small"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"messages":[]}', 400, "missing_model_field"),
        (b'{"model":7}', 400, "missing_model_field"),
        (b'{"model":""}', 400, "missing_model_field"),
        (b'{"model":', 400, "malformed_json"),
        (b'["model"]', 422, "invalid_request_body"),
        (b'{"model":"nobody/has-it"}', 404, "model_not_found"),
        (orjson.dumps({"model": "m" * 10_000}), 404, "model_not_found"),
    ],
)
def test_a_request_that_cannot_be_routed_is_told_why(body, status, code):
    """The caller's mistakes are 4xx with a code and without Retry-After, and no neuron hears of them."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            response = await client.post("/v1/chat/completions", content=body)
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (status, code)
            assert "model" in error["message"] or code != "missing_model_field"
            assert "not found" in error["message"] or code != "model_not_found"
            assert len(error["message"]) < 300
            assert "retry-after" not in response.headers
            assert beast.sent == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (400, {}, b'{"error":{"message":"too long","code":"context_length_exceeded","max":4096}}'),
        (429, {"retry_after": "7"}, b'{"error":{"message":"queue full","code":"rate_limit_exceeded"}}'),
        (503, {"retry_after": "15"}, b'{"error":{"message":"going down","code":"shutting_down"}}'),
        (404, {}, b""),
        (500, {}, b"plain words"),
        (500, {}, b'{"error":{"message":"no","code":"my_whole secret"}}'),
    ],
)
def test_a_neurons_error_is_passed_on_whole(status, headers, body, caplog):
    """Status, Retry-After and body come through; the log has the status and none of the body, which may quote a prompt."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            beast.chat = answer(status, body, **headers)
            for stream in (False, True):
                response = await client.chat(stream=stream)
                assert (response.status_code, response.content) == (status, body)
                assert response.headers.get("retry-after") == headers.get("retry_after")
                assert response.headers["x-cortex-node"] == "beast"

    asyncio.run(scenario())
    line = next(record.getMessage() for record in caplog.records if "neuron answered" in record.getMessage())
    code = orjson.loads(body)["error"]["code"] if body.startswith(b"{") and b"secret" not in body else None
    assert line == f"neuron answered {status}" + (f" {code}" if code else "")


def test_requests_are_refused_while_the_gateway_stops():
    """At shutdown what runs is drained, new requests get 503 shutting_down, and health still answers."""

    async def scenario():
        finish, stop = asyncio.Event(), asyncio.Event()
        tasks = Tasks("test")
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, Client() as client:
            beast.step = hold_at(2, finish)

            async def serve():
                async with gateway([beast], drain_secs=20) as inner:
                    client.base_url = inner.base_url
                    await stop.wait()

            serving = tasks.start("serve", serve())
            await until(lambda: client.base_url.host)
            running = tasks.start("stream", client.stream_text())
            await until(lambda: beast.sent)
            stop.set()

            async def refused():
                response = await client.chat()
                return response if response.status_code != 200 else None

            response = await eventually(refused)
            assert (response.status_code, response.json()["error"]["code"]) == (503, "shutting_down")
            assert int(response.headers["retry-after"]) > 0
            assert (await client.get("/health")).status_code == 200
            finish.set()
            assert "[DONE]" in await running
            await serving

    asyncio.run(scenario())


def test_a_conversation_goes_on_where_its_beginning_is_in_the_cache():
    """Among equally busy nodes; whether the gateway is the same one or another makes no difference."""

    def turns(number: int) -> list[list[dict[str, str]]]:
        system = {"role": "system", "content": f"{number} " + "You are an agent. " * 100}
        first = [system, {"role": "user", "content": "hi"}]
        return [first, [*first, {"role": "assistant", "content": "ho"}, {"role": "user", "content": "and?"}]]

    async def scenario():
        async with (
            FakeNeuron("a", {"org/m": "loaded"}) as a,
            FakeNeuron("b", {"org/m": "loaded"}) as b,
            gateway([a, b]) as one,
            gateway([b, a]) as other,
        ):
            seen = set()
            for number in range(12):
                first, second = turns(number)
                node = (await one.chat(messages=first)).headers["x-cortex-node"]
                assert (await other.chat(messages=second)).headers["x-cortex-node"] == node
                seen.add(node)
            assert seen == {"a", "b"}

    asyncio.run(scenario())

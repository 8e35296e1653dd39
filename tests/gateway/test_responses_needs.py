"""clients.md 5.2 and 5.3: every M of Codex, and what Zed, opencode and the like need of chat completions, one test each, over HTTP."""

import orjson
from helpers.fake_neuron import USAGE_EVENT, answer, chunk
from helpers.needs import at_gateway, events_of

ASK = {"model": "org/m", "input": "hi"}
DONE = b"data: [DONE]\n\n"
FUNCTION = {"type": "function", "name": "shell", "parameters": {"type": "object"}}
CALL = {"type": "function_call", "call_id": "call_1", "name": "shell", "arguments": "{}"}


async def sent(beast, client, **more):
    """The chat completion that stands for a request."""
    answered = await client.post("/v1/responses", json=ASK | more)
    assert answered.status_code == 200, answered.text
    return beast.sent[-1].json


async def streamed(beast, client, *events, **more):
    beast.events = (chunk({"role": "assistant", "content": None}), *events, USAGE_EVENT, DONE)
    return events_of((await client.post("/v1/responses", json=ASK | {"stream": True} | more)).text)


# ---- 5.2, request


@at_gateway
async def test_r1_one_leading_system_message(beast, client):
    """5.2 M: instructions, developer and system messages are one system message, which comes first."""
    items = [
        {"role": "developer", "content": "two"},
        {"role": "user", "content": "hi"},
        {"role": "system", "content": "three"},
    ]
    messages = (await sent(beast, client, instructions="one", input=items))["messages"]
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[0]["content"].split() == ["one", "two", "three"]


@at_gateway
async def test_r2_every_item_of_input(beast, client):
    """5.2 M: typed and untyped messages, calls and outputs (text or parts), reasoning also when encrypted, searches, unknown items."""
    items = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"role": "user", "content": "b"},
        {"type": "reasoning", "summary": [], "encrypted_content": "xyz"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "of_tomorrow", "x": 1},
        CALL,
        {"type": "function_call_output", "call_id": "call_1", "output": "one"},
        CALL | {"call_id": "call_2"},
        {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "two"}]},
    ]
    messages = (await sent(beast, client, input=items))["messages"]
    assert [message["role"] for message in messages] == ["user", "user", "assistant", "tool", "assistant", "tool"]
    assert [message["content"] for message in messages if message["role"] == "tool"] == ["one", "two"]


@at_gateway
async def test_r3_parts_of_content(beast, client):
    """5.2 M: input and output texts and images are read, files refused in clear words."""
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]
    said = {"type": "output_text", "text": "b"}
    items = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": [said]},
        {"role": "user", "content": "c"},
    ]
    messages = (await sent(beast, client, input=items))["messages"]
    assert [part["type"] for part in messages[0]["content"]] == ["text", "image_url"]
    assert messages[1]["content"] == "b"
    file = {"type": "input_file", "file_id": "file_1"}
    refused = await client.post("/v1/responses", json=ASK | {"input": [{"role": "user", "content": [file]}]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input.0.content.0")


@at_gateway
async def test_r4_tools(beast, client):
    """5.2 M: functions in the flat shape, hosted and free-form tools skipped, members of namespaces under qualified names."""
    skipped = [
        {"type": "web_search"},
        {"type": "image_generation"},
        {"type": "local_shell"},
        {"type": "custom", "name": "x"},
    ]
    space = {"type": "namespace", "name": "crm", "tools": [FUNCTION | {"name": "find"}]}
    body = await sent(beast, client, tools=[FUNCTION, *skipped, space])
    assert [tool["function"]["name"] for tool in body["tools"]] == ["shell", "crm__find"]


@at_gateway
async def test_r5_what_is_not_stored_is_said(beast, client):
    """5.2 M: `previous_response_id` is a clear 400 where nothing is stored, and no neuron is asked."""
    refused = await client.post("/v1/responses", json=ASK | {"previous_response_id": "resp_1"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "previous_response_id")
    assert "not stored" in refused.json()["error"]["message"]
    assert beast.sent == []


# ---- 5.2, events


@at_gateway
async def test_r6_a_calls_item_is_complete_when_it_is_done(beast, client):
    """5.2 M: the type stands in every event's data; output_item.done has the whole call: Codex reads no deltas of arguments."""
    pieces = [{"index": 0, "id": "call_9", "type": "function", "function": {"name": "shell", "arguments": '{"a"'}}]
    rest = [{"index": 0, "function": {"arguments": ": 1}"}}]
    told = await streamed(
        beast,
        client,
        chunk({"tool_calls": pieces}),
        chunk({"tool_calls": rest}),
        chunk({}, "tool_calls"),
        tools=[FUNCTION],
    )
    (item,) = [data["item"] for name, data in told if name == "response.output_item.done"]
    assert (item["type"], item["call_id"], item["name"]) == ("function_call", "call_9", "shell")
    assert orjson.loads(item["arguments"]) == {"a": 1}


@at_gateway
async def test_r7_order_and_places_of_deltas(beast, client):
    """5.2 M: an item is added before its deltas, which say where they belong; the completed response has its id, output and usage."""
    told = await streamed(
        beast, client, chunk({"reasoning_content": "Hm."}), chunk({"content": "x"}), chunk({}, "stop")
    )
    added = set()
    for name, data in told:
        if name == "response.output_item.added":
            added.add(data["item"]["id"])
        elif name.endswith("_text.delta"):
            assert data["item_id"] in added
            assert {"output_index", "content_index"} <= data.keys()
    name, last = told[-1]
    response, usage = last["response"], last["response"]["usage"]
    assert (name, response["object"], response["model"]) == ("response.completed", "response", "org/m")
    assert response["id"].startswith("resp_")
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] == 10
    assert (usage["input_tokens_details"]["cached_tokens"], usage["output_tokens_details"]["reasoning_tokens"]) == (
        2,
        0,
    )


@at_gateway
async def test_r8_every_stream_has_an_end(beast, client):
    """5.2 M: completed, or failed when the engine broke off: never neither."""
    whole = await streamed(beast, client, chunk({"content": "x"}), chunk({}, "stop"))
    assert whole[-1][0] == "response.completed"
    beast.events = (chunk({"role": "assistant", "content": None}), chunk({"content": "x"}))
    cut = events_of((await client.post("/v1/responses", json=ASK | {"stream": True})).text)
    assert cut[-1][0] == "response.failed"


@at_gateway
async def test_r9_failures_that_codex_acts_on(beast, client):
    """5.2 M: an overflow by its code, a limit with the words that it reads a delay from, a quota that is used up."""
    for error, code, words in (
        ({"message": "m", "code": "context_length_exceeded"}, "context_length_exceeded", ""),
        ({"message": "m", "code": "rate_limit_exceeded"}, "rate_limit_exceeded", "try again in 5s"),
        ({"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}, "insufficient_quota", ""),
    ):
        told = await streamed(beast, client, b"data: " + orjson.dumps({"error": error}) + b"\n\n")
        name, last = told[-1]
        failure = last["response"]["error"]
        assert (name, failure["code"]) == ("response.failed", code)
        assert words in failure["message"]


# ---- 5.3


CHAT = {"model": "org/m", "messages": [{"role": "user", "content": "hi"}]}


@at_gateway
async def test_c1_what_chat_clients_send_is_passed_on(beast, client):
    """5.3 M: reasoning in the history, both names of the bound, developer and several system messages, parts, null content: byte for byte."""
    messages = [
        {"role": "developer", "content": "d"},
        {"role": "system", "content": [{"type": "text", "text": "s"}]},
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": []},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    ]
    body = orjson.dumps(
        {"model": "org/m", "messages": messages, "max_completion_tokens": 5, "max_tokens": 6, "of_tomorrow": 1}
    )
    headers = {"content-type": "application/json", "x-of-a-client": "1", "authorization": "Bearer any"}
    assert (await client.post("/v1/chat/completions", content=body, headers=headers)).status_code == 200
    assert beast.sent[-1].body == body
    assert beast.sent[-1].headers["x-of-a-client"] == "1"


@at_gateway
async def test_c2_streamed_calls_and_usage_arrive_as_they_are(beast, client):
    """5.3 M: index and id of tool calls, the reason on the last chunk, usage with empty choices, [DONE]: a neuron's own bytes."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    beast.events = (chunk({"tool_calls": [call]}), chunk({}, "tool_calls"), USAGE_EVENT, DONE)
    answered = await client.chat(stream=True, stream_options={"include_usage": True})
    assert answered.content == b"".join(beast.events)


@at_gateway
async def test_c3_errors_that_clients_understand(beast, client):
    """5.3 M: OpenAI's error object; 404 `model_not_found`; what is busy says when to come again."""
    unknown = await client.post("/v1/chat/completions", json=CHAT | {"model": "org/none"})
    error = unknown.json()["error"]
    assert (unknown.status_code, error["type"], error["code"]) == (404, "invalid_request_error", "model_not_found")
    busy = {"message": "busy", "type": "rate_limit_error", "code": "rate_limit_exceeded"}
    beast.chat = answer(429, orjson.dumps({"error": busy}), retry_after="7")
    refused = await client.post("/v1/chat/completions", json=CHAT)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")

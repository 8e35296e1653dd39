"""clients.md 5.1: every M of Claude Code and Anthropic's SDKs, one test each, over HTTP through a gateway.

Where the answer is a real engine's affair (clamped bounds, enforced tools, counted tokens) tests/clients has it as well.
"""

import hashlib

import orjson
import pytest
from helpers.fake_neuron import USAGE_EVENT, answer, chunk
from helpers.needs import at_gateway, events_of, whole_answer

from cortex.gateway.proxy import sinks

SAYS = {"role": "user", "content": "hi"}
ASK = {"model": "org/m", "max_tokens": 8, "messages": [SAYS]}
TOOL = {"name": "get_weather", "description": "of a city", "input_schema": {"type": "object"}}
DONE = b"data: [DONE]\n\n"
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ""}}


async def sent(beast, client, **more):
    """The chat completion that stands for a message."""
    answered = await client.post("/v1/messages", json=ASK | more)
    assert answered.status_code == 200, answered.text
    body = beast.sent[-1].json
    body.pop("stream", None)
    return body


async def streamed(beast, client, *events, **more):
    """(name, data) of each event that these of an engine become."""
    beast.events = (chunk({"role": "assistant", "content": None}), *events, DONE)
    return events_of((await client.post("/v1/messages", json=ASK | {"stream": True} | more)).text)


# ---- endpoints and auth


@at_gateway
async def test_m1_the_path_matters_and_no_query(beast, client):
    """5.1 M: `/v1/messages?beta=true`, streamed and not."""
    for query in ("", "?beta=true", "?beta=false&x=1"):
        whole = await client.post(f"/v1/messages{query}", json=ASK)
        assert whole.json()["content"] == [{"type": "text", "text": "Paris"}]
        told = events_of((await client.post(f"/v1/messages{query}", json=ASK | {"stream": True})).text)
        assert "".join(data["delta"]["text"] for name, data in told if name == "content_block_delta") == "Paris"
    assert {request.path for request in beast.sent} == {"/v1/chat/completions"}


KEY = {"sha256": hashlib.sha256(b"secret").hexdigest(), "account_id": "alice"}


@at_gateway(entitlements={"require_auth": True, "keys": [KEY]})
async def test_m2_a_credential_in_either_header_or_both(beast, client):
    """5.1 M: `Authorization: Bearer`, `x-api-key`, or both with the same value."""
    bearer, key = {"authorization": "Bearer secret"}, {"x-api-key": "secret"}
    for headers in (bearer, key, bearer | key):
        assert (await client.post("/v1/messages", json=ASK, headers=headers)).status_code == 200
    refused = await client.post("/v1/messages", json=ASK)
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
    assert "secret" not in str([request.headers for request in beast.sent])


@at_gateway
async def test_m3_versions_and_betas_are_nobodys_business(beast, client):
    """5.1 M: any `anthropic-version` and any list of betas, also none: the neuron is asked the same."""
    for headers in (
        {},
        {"anthropic-version": "2023-06-01"},
        {"anthropic-version": "2031-01-01", "anthropic-beta": "a,b-2025-01-01"},
    ):
        assert (await client.post("/v1/messages", json=ASK, headers=headers)).status_code == 200
    assert len({request.body for request in beast.sent}) == 1


# ---- request fields


@at_gateway
async def test_m4_system_texts_without_the_header_that_changes(beast, client):
    """5.1 M: `system` as a string or as blocks; the billing header, new with every request, leaves the prompt's beginning the same."""
    plain = await sent(beast, client, system="Be brief.")
    assert plain["messages"][0] == {"role": "system", "content": "Be brief."}
    for number in (1, 2):
        billing = {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2.1; cch={number};"}
        assert await sent(beast, client, system=[billing, {"type": "text", "text": "Be brief."}]) == plain


@at_gateway
async def test_m5_system_messages_in_the_middle_stay_there(beast, client):
    """5.1 M: a mid-conversation system message is demoted in place, so that what stands before it is as it was."""
    turns = [SAYS, {"role": "assistant", "content": "Yes?"}]
    before = await sent(beast, client, system="s", messages=[*turns, {"role": "user", "content": "go"}])
    after = await sent(
        beast,
        client,
        system="s",
        messages=[*turns, {"role": "system", "content": "Hurry."}, {"role": "user", "content": "go"}],
    )
    assert after["messages"][:3] == before["messages"][:3]
    assert [message["role"] for message in after["messages"]].count("system") == 1
    assert "Hurry." in after["messages"][-1]["content"]


@at_gateway
async def test_m6_every_block_of_content(beast, client):
    """5.1 M: text, images, tool use and results with images and errors, thinking in both kinds, server tools; what is unknown is skipped."""
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    remote = {"type": "image", "source": {"type": "url", "url": "data:image/png;base64,AAAA"}}
    text = {"type": "text", "text": "look"}
    body = await sent(
        beast,
        client,
        messages=[
            {"role": "user", "content": [text, picture, remote, {"type": "of_tomorrow", "x": 1}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "x"},
                    text,
                    {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}},
                    {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []},
                    {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text, picture], "is_error": True},
                    {"type": "tool_reference", "tool_name": "get_time"},
                ],
            },
        ],
    )
    user, assistant, tool, rest = body["messages"]
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "image_url"]
    assert (assistant["content"], assistant["reasoning_content"]) == ("look", "hm")
    assert assistant["tool_calls"][0]["id"] == tool["tool_call_id"]
    assert orjson.loads(assistant["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris"}
    assert tool["content"][0]["text"] == "Error: look"
    assert rest == {"role": "user", "content": "get_time"}


@at_gateway
async def test_m7_results_before_the_rest_of_the_turn(beast, client):
    """5.1 M: in one user message the tool results come first."""
    call = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}
    turns = [
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{"type": "text", "text": "and?"}, result]},
    ]
    body = await sent(beast, client, messages=[SAYS, *turns])
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool", "user"]


@at_gateway
async def test_m8_what_is_tolerated_changes_nothing(beast, client):
    """5.1 M: `cache_control` anywhere, metadata, context management, hints of tools and unknown fields."""
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    text = {"type": "text", "text": "hi"}
    plain = await sent(beast, client, tools=[TOOL], system=[text], messages=[{"role": "user", "content": [text]}])
    hints = {"strict": True, "defer_loading": True, "eager_input_streaming": True}
    marked = await sent(
        beast,
        client,
        tools=[TOOL | hints | mark],
        system=[text | mark],
        messages=[{"role": "user", "content": [text | mark]}],
        metadata={"user_id": "u"},
        context_management={"edits": []},
        of_tomorrow={"x": [1]},
    )
    assert marked == plain


@at_gateway
async def test_m9_tools_are_functions_and_server_tools_are_dropped(beast, client):
    """5.1 M: a schema makes a function; `web_search_*` is left out and never a 400."""
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
    body = await sent(beast, client, tools=[TOOL, search])
    function = {"name": "get_weather", "description": "of a city", "parameters": {"type": "object"}}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert "tools" not in await sent(beast, client, tools=[search])


@at_gateway
async def test_m10_tool_choice(beast, client):
    """5.1 M: auto, any, a tool, none, and one call at a time."""
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice, expected in (
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "tool", "name": "get_weather"}, named),
        ({"type": "none"}, "none"),
    ):
        assert (await sent(beast, client, tools=[TOOL], tool_choice=choice))["tool_choice"] == expected
    alone = {"type": "auto", "disable_parallel_tool_use": True}
    assert (await sent(beast, client, tools=[TOOL], tool_choice=alone))["parallel_tool_calls"] is False


@at_gateway
async def test_m11_thinking_in_all_its_forms(beast, client):
    """5.1 M: enabled with a budget, disabled, adaptive, also with a budget of 0."""
    for thinking, enabled in (
        ({"type": "enabled", "budget_tokens": 1024}, True),
        ({"type": "adaptive"}, True),
        ({"type": "adaptive", "budget_tokens": 0}, True),
        ({"type": "disabled"}, False),
    ):
        body = await sent(beast, client, thinking=thinking)
        assert body["chat_template_kwargs"] == {"enable_thinking": enabled}


@at_gateway
async def test_m12_bounds_and_sampling(beast, client):
    """5.1 M: `max_tokens` far beyond the model is no error (its neuron clamps it); stop sequences and sampling are passed."""
    body = await sent(beast, client, max_tokens=32000, stop_sequences=["X"], temperature=0.5, top_p=0.9, top_k=3)
    told = {name: body[name] for name in ("max_tokens", "stop", "temperature", "top_p", "top_k")}
    assert told == {"max_tokens": 32000, "stop": ["X"], "temperature": 0.5, "top_p": 0.9, "top_k": 3}


@at_gateway(catalogue={"aliases": {"claude-opus-5": "org/m", "*": "org/m"}})
async def test_m13_names_of_models_are_mapped(beast, client):
    """5.1 M: Claude Code's own names, the small ones of background calls too, lead to the same resident model; answers keep the name."""
    for name in ("claude-opus-5", "claude-haiku-4-5-20251001", "claude-sonnet-9"):
        answered = await client.post("/v1/messages", json=ASK | {"model": name})
        assert answered.json()["model"] == name
        assert beast.sent[-1].json["model"] == "org/m"
    assert beast.loads == []


# ---- response and stream


@at_gateway
async def test_m14_the_shape_of_a_message(beast, client):
    """5.1 M: id, type, role, model, content, stop reason and sequence, usage."""
    message = (await client.post("/v1/messages", json=ASK)).json()
    assert message["id"].startswith("msg_")
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "org/m")
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    assert (message["usage"]["output_tokens"], len(beast.sent)) == (5, 1)


@at_gateway
async def test_m15_usage_at_the_start_and_disjoint(beast, client):
    """5.1 M: `input_tokens` stands in message_start; at the end the counts are the whole's, and cached tokens are counted once."""
    told = dict(await streamed(beast, client, chunk({"content": "x"}), chunk({}, "stop"), USAGE_EVENT))
    assert told["message_start"]["message"]["usage"]["input_tokens"] == beast.tokens
    usage = told["message_delta"]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (5, 2)
    assert (usage["cache_creation_input_tokens"], usage["output_tokens"]) == (0, 3)


@at_gateway
async def test_m16_the_order_of_events(beast, client):
    """5.1 M: one message_start, contiguous blocks, each started, typed and stopped before the next, and no first token lost."""
    told = await streamed(
        beast,
        client,
        chunk({"reasoning_content": "Hm."}),
        chunk({"content": "It is"}),
        chunk({"content": " so."}),
        chunk({"tool_calls": [CALL | {"function": {"name": "get_weather", "arguments": "{}"}}]}),
        chunk({}, "tool_calls"),
        tools=[TOOL],
    )
    names = [name for name, _ in told]
    assert names[0] == "message_start"
    assert names.count("message_start") == 1
    assert names[-2:] == ["message_delta", "message_stop"]
    blocks = [data for name, data in told if name == "content_block_start"]
    assert [(block["index"], block["content_block"]["type"]) for block in blocks] == [
        (0, "thinking"),
        (1, "text"),
        (2, "tool_use"),
    ]
    opened = None
    for name, data in told:
        if name == "content_block_start":
            assert opened is None
            opened = data["index"]
        elif name == "content_block_delta":
            assert data["index"] == opened
        elif name == "content_block_stop":
            assert data["index"] == opened
            opened = None
    texts = [data["delta"].get("text", "") for name, data in told if name == "content_block_delta"]
    assert "".join(texts) == "It is so."


@pytest.mark.parametrize("pieces", [['{"city": "Paris"}'], ['{"ci', 'ty": ', '"Paris"}']], ids=["at once", "in pieces"])
def test_m17_a_tools_input_is_json(pieces):
    """5.1 M: id, name and an empty input first, then pieces that are JSON together, however the engine sent them; stop reason tool_use."""

    @at_gateway
    async def scenario(beast, client):
        deltas = [chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in pieces]
        told = await streamed(
            beast, client, chunk({"tool_calls": [CALL]}), *deltas, chunk({}, "tool_calls"), tools=[TOOL]
        )
        block = dict(told)["content_block_start"]["content_block"]
        assert (block["name"], block["input"]) == ("get_weather", {})
        assert block["id"].startswith("toolu_")
        parts = [data["delta"]["partial_json"] for name, data in told if name == "content_block_delta"]
        assert orjson.loads("".join(parts)) == {"city": "Paris"}
        assert dict(told)["message_delta"]["delta"]["stop_reason"] == "tool_use"

    scenario()


@at_gateway
async def test_m18_reasoning_is_a_thinking_block(beast, client):
    """5.1 M: `reasoning_content` becomes a thinking block with its deltas, whole and streamed."""
    told = await streamed(
        beast, client, chunk({"reasoning_content": "Hm."}), chunk({"content": "x"}), chunk({}, "stop")
    )
    deltas = [data["delta"] for name, data in told if name == "content_block_delta"]
    assert {"type": "thinking_delta", "thinking": "Hm."} in deltas
    beast.chat = answer(200, whole_answer(content="x", reasoning_content="Hm."))
    whole = (await client.post("/v1/messages", json=ASK)).json()
    assert [block["type"] for block in whole["content"]] == ["thinking", "text"]


def test_m19_silence_has_pings(monkeypatch):
    """5.1 M: while a model loads and after message_start, silence is broken by real `ping` events."""
    monkeypatch.setattr(sinks, "EVENT_S", 0.02)

    @at_gateway(models={"org/m": "unloaded"}, keepalive_secs=0.01)
    async def scenario(beast, client):
        beast.load_gate.clear()
        async with client.stream("POST", "/v1/messages", json=ASK | {"stream": True}) as waiting:
            lines = waiting.aiter_lines()
            while await anext(lines) != "event: ping":
                pass
            assert await anext(lines) == 'data: {"type":"ping"}'
            beast.load_gate.set()
            assert "event: message_stop" in [line async for line in lines]

    scenario()


@at_gateway
async def test_m20_stop_reasons(beast, client):
    """5.1 M: end_turn, max_tokens, stop_sequence, tool_use."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for finish, more, expected in (
        ("stop", {}, "end_turn"),
        ("length", {}, "max_tokens"),
        ("stop", {"__verbose": {"stopping_word": "X"}}, "stop_sequence"),
        ("tool_calls", {"tool_calls": [call]}, "tool_use"),
    ):
        verbose = {"__verbose": more.pop("__verbose")} if "__verbose" in more else {}
        beast.chat = answer(200, whole_answer(finish, verbose, **({"content": "x"} | more)))
        message = (await client.post("/v1/messages", json=ASK | {"stop_sequences": ["X"]})).json()
        assert message["stop_reason"] == expected


@at_gateway
async def test_m21_the_body_of_an_error(beast, client):
    """5.1 M: the envelope with the request's id, before the stream and as its last event (test_every_error.py has every status)."""
    whole = await client.post("/v1/messages", json=ASK | {"model": "org/none"})
    assert whole.status_code == 404
    error = whole.json()
    assert (error["type"], error["error"]["type"]) == ("error", "not_found_error")
    assert error["request_id"] == whole.headers["request-id"]
    broken = b'data: {"error":{"message":"gone","code":"engine_failed"}}\n\n'
    name, last = (await streamed(beast, client, chunk({"content": "x"}), broken))[-1]
    assert (name, last["type"], last["error"]["type"]) == ("error", "error", "api_error")


@at_gateway
async def test_m22_an_overflow_lets_the_client_compact(beast, client):
    """5.1 M: a 4xx, never a 500, whose text begins `prompt is too long`."""
    overflow = {"message": "at most 5 tokens", "type": "invalid_request_error", "code": "context_length_exceeded"}
    beast.chat = answer(400, orjson.dumps({"error": overflow}))
    for stream in (False, True):
        refused = await client.post("/v1/messages", json=ASK | {"stream": stream})
        assert refused.status_code == 400
        assert refused.json()["error"]["message"].startswith("prompt is too long")

"""What the self-test asks of a gateway: one question in each dialect, and the answer as text. Raises NotSo."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from binary.selftest_check import WAIT_S, NotSo


def streamed(url: str, model: str, question: str) -> str:
    """The text of one streamed chat; it must end as a stream should."""
    body = {"model": model, "stream": True, "max_tokens": 32, "temperature": 0, "messages": _user(question)}
    with asked(f"{url}/v1/chat/completions", body) as answer:
        events = [line.removeprefix(b"data: ").strip() for line in answer if line.startswith(b"data: ")]
    if not events or events.pop() != b"[DONE]":
        raise NotSo("the stream does not end with [DONE]")
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def message(url: str, model: str, question: str) -> str:
    """Anthropic's Messages."""
    told = answer(f"{url}/v1/messages", {"model": model, "max_tokens": 32, "messages": _user(question)})
    return str(told["content"][0]["text"])


def followed(url: str, model: str, question: str) -> list[str]:
    """OpenAI's Responses: an answer that is kept, and one that follows it by its id."""
    body = {"model": model, "max_output_tokens": 32, "input": question, "store": True}
    first = answer(f"{url}/v1/responses", body)
    second = answer(f"{url}/v1/responses", body | {"previous_response_id": first["id"]})
    return [str(told["output"][0]["content"][0]["text"]) for told in (first, second)]


def completed(url: str, model: str) -> int:
    """How many tokens a completion has."""
    told = answer(f"{url}/v1/completions", {"model": model, "max_tokens": 4, "prompt": "Hello"})
    return int(told["usage"]["completion_tokens"])


def answer(url: str, body: dict[str, Any]) -> dict[str, Any]:
    with asked(url, body) as response:
        told: dict[str, Any] = json.load(response)
    return told


def asked(url: str, body: dict[str, Any]) -> http.client.HTTPResponse:
    ask = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(ask, timeout=WAIT_S)
    except urllib.error.HTTPError as error:
        raise NotSo(f"{url}: HTTP {error.code} {error.read().decode()}") from error
    return response


def fetched(url: str, token: str = "") -> bytes | None:
    """None where nobody answers, or says no."""
    ask = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(ask, timeout=5) as response:
            body: bytes = response.read()
            return body
    except OSError:
        return None


def _user(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]

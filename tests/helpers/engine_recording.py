"""Records answers of the real engine with the scripted model: `python tests/helpers/engine_recording.py` from the root.

tests/wire/recorded/NAME.sse is the stream and NAME.json the whole answer to the chat request of the same name, made once
and committed, so that tests of translation need no engine. The chat template is the scripted one, taught to think.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.engines import engine_spec, running_engine  # noqa: E402  the path is set above
from helpers.scripted_gguf import TEMPLATE, write_scripted_model  # noqa: E402

from cortex.net.pool import Pool  # noqa: E402
from cortex.neuron.engine.process import EngineProcess  # noqa: E402

RECORDED = ROOT / "tests" / "wire" / "recorded"
_SAID = "{%- if message.content %}{{- '\\n' + message.content }}{%- endif %}"
_THOUGHT = (
    "{%- if message.reasoning_content %}{{- '\\n<think>\\n' + message.reasoning_content + '\\n</think>' }}{%- endif %}"
)
THINKING_TEMPLATE = TEMPLATE.replace(_SAID, _THOUGHT + _SAID)  # the engine learns from it how thinking is written

_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def _ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": [{"role": "user", "content": text}], "max_tokens": 40, **fields}


REQUESTS: dict[str, dict[str, Any]] = {
    "hello": _ask("hi"),
    "emoji": _ask("[[emoji]]"),
    "think": _ask("[[think]]"),
    "tool": _ask("weather?", tools=[_WEATHER]),
    "tool_cut": _ask("weather?", tools=[_WEATHER], max_tokens=5),
    "length": _ask("[[loop]]", max_tokens=6),
    "stop": _ask("[[stop]]", stop=["STOP"], verbose=True, response_fields=["stopping_word"]),
    "no_stop": _ask("hi", stop=["STOP"], verbose=True, response_fields=["stopping_word"]),
    "logprobs": _ask("hi", logprobs=True, top_logprobs=2),
    "cached": _ask("hi " * 200),
}


async def chat(engine: EngineProcess, body: dict[str, Any]) -> bytes:
    """The engine's answer to a chat completions body."""
    async with (
        Pool(keepalive=False) as pool,
        await pool.open(engine.address, "POST", "/v1/chat/completions", body=orjson.dumps(body)) as exchange,
    ):
        return await exchange.read_all(1 << 20, 20)


async def record() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = folder / "scripted.gguf"
        write_scripted_model(model)
        async with running_engine(
            engine_spec(model, folder, alias="scripted", chat_template=THINKING_TEMPLATE)
        ) as engine:
            for name, body in REQUESTS.items():
                (RECORDED / f"{name}.json").write_bytes(await chat(engine, body))
                streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
                (RECORDED / f"{name}.sse").write_bytes(await chat(engine, streamed))


if __name__ == "__main__":
    asyncio.run(record())

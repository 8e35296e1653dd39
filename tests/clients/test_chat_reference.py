"""`/v1/chat/completions` to the letter of OpenAI's reference, where the SDKs' own tests do not reach: through the whole chain."""

import asyncio

import pytest
from helpers.live import SCRIPTED, SCRIPTED_MODEL, running_fleet
from helpers.scripted_gguf import script_text

pytestmark = pytest.mark.model
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
HISTORY = [
    {"role": "system", "content": "S1"},
    {"role": "system", "content": "S2"},
    {"role": "developer", "content": [{"type": "text", "text": "D3"}]},
    {"role": "user", "content": "hi"},
    {"role": "system", "content": "S4"},
    {"role": "assistant", "content": None, "reasoning_content": "R", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "T5"},
]


def test_the_reference(models_dir):
    """System texts in their order, the developer's among them; content null; bounds under both names; biases; bounds beyond the context."""

    async def scenario():
        async with running_fleet(models_dir, default_models=[SCRIPTED_MODEL]) as fleet:

            async def asked(path, **fields):
                answer = await fleet.http.post(path, json={"model": SCRIPTED, **fields})
                assert answer.status_code == 200, answer.text
                return answer.json()

            prompt = (await asked("/apply-template", messages=HISTORY))["prompt"]
            places = [prompt.index(f"{text}<|im_end|>") for text in ("S1", "S2", "D3", "hi", "S4")]
            assert places == sorted(places)
            assert (prompt.count("<|im_start|>system\n"), prompt.index("T5") > places[-1]) == (4, True)
            ended = await asked("/v1/chat/completions", messages=HISTORY, max_tokens=32)
            assert ended["choices"][0]["message"]["content"] == script_text("after")
            hi = [{"role": "user", "content": "hi"}]
            for bound in ("max_tokens", "max_completion_tokens"):
                cut = (await asked("/v1/chat/completions", messages=hi, **{bound: 3}))["choices"][0]
                assert (cut["message"]["content"], cut["finish_reason"]) == ("Hello from the", "length")
            (banned,) = (await asked("/tokenize", content=" from"))["tokens"]
            biased = await asked("/v1/chat/completions", messages=hi, max_tokens=8, logit_bias={str(banned): -100})
            assert " from" not in biased["choices"][0]["message"]["content"]
            for path, text in (("/v1/chat/completions", "choices"), ("/v1/messages", "content")):
                beyond = await asked(path, messages=hi, max_tokens=10_000_000)
                assert script_text("hello") in str(beyond[text])

    asyncio.run(scenario())

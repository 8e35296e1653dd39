"""The same Messages through our translation and through llama.cpp's own, on the same engine: what differs is listed here, and why.

At temperature 0 text, calls, stop reasons and tokens are the same, but for these:

    stop sequences   llama.cpp says `end_turn` where one ended the answer, and may name it; the reference says
                     `stop_sequence`, and names it.
    ids              a message's begins with `msg_`, a call's with `toolu_`: clients look for it.
    halves           what a bound on tokens cuts in two, a character or the opening of a call, is not shown; llama.cpp shows
                     a replacement character, and the opening as text.
    cached tokens    they depend on what the engine had read before: the sum is compared, which is the prompt.
    system blocks    several are paragraphs; llama.cpp writes one behind the other without a space.
    result blocks    several stand on lines of their own, as a turn's do; llama.cpp writes one behind the other here too.
    failed tools     the result says "Error: " to the model; llama.cpp does not tell it.
    system turns     one in the middle stays where it is, as a reminder in the user's turn, for the prompt cache's sake.
"""

import asyncio
import contextlib
import random

import httpx
import pytest
from helpers.effort import cases
from helpers.live import DEMO, DEMO_MODEL, SCRIPTED, SCRIPTED_MODEL, running_fleet

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.long]
SEED = 20261123
WORDS = [
    "hello",
    "Grüße",
    "日本語",
    "😀👩‍💻",
    "x = {1: [2]};",
    "line\nbreak",
    "  spaced  ",
    "<b>&amp;</b>",
    "don't",
    "٣١٤",
    "\ttab",
    "{{ no }}",
]
MARKS = ["[[loop]]", "[[emoji]]", "[[json]]", "[[stop]]", "[[text]]", "", "", ""]
TOOLS = [
    {
        "name": name,
        "description": f"Does {name}, «truly»",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Zürich"]}, "n": {"type": "integer"}},
            "required": ["city"],
        },
    }
    for name in ("get_weather", "look_up", "Bash")
]


class Requests:
    """Requests made by a seed."""

    def __init__(self, seed):
        self.dice = random.Random(seed)

    def text(self, most=12):
        return " ".join(self.dice.choices(WORDS, k=self.dice.randint(1, most)))

    def blocks(self):
        """A string, or as many blocks."""
        if self.dice.random() < 0.5:
            return self.text()
        return [{"type": "text", "text": self.text()} for _ in range(self.dice.randint(1, 3))]

    def request(self, model):
        turns, tools = [], self.dice.sample(TOOLS, self.dice.choice([0, 0, 1, 3]))
        for number in range(self.dice.choice([0, 0, 1, 2])):
            turns += [{"role": "user", "content": self.blocks()}, *self.answered(f"toolu_{number}", tools)]
        turns.append({"role": "user", "content": f"{self.text()} {self.dice.choice(MARKS)}"})
        made = {"model": model, "messages": turns, "max_tokens": self.dice.choice([1, 5, 24, 40]), "temperature": 0}
        if self.dice.random() < 0.5:
            made["system"] = self.text(self.dice.choice([3, 300]))
        if tools:
            made["tools"] = tools
        if self.dice.random() < 0.3:
            made["stop_sequences"] = self.dice.sample(["STOP", "tock", "model", "\n\n", "😀"], 2)
        return made

    def answered(self, call_id, tools):
        """The assistant's turn, and what a tool said if it called one."""
        if not tools or self.dice.random() < 0.5:
            return [{"role": "assistant", "content": self.text()}]
        call = {"type": "tool_use", "id": call_id, "name": tools[0]["name"], "input": {"city": self.text(2)}}
        result = {"type": "tool_result", "tool_use_id": call_id, "content": self.text()}
        said = [{"type": "text", "text": self.text()}] if self.dice.random() < 0.5 else []
        return [
            {"role": "assistant", "content": [*said, call]},
            {"role": "user", "content": [result]},
            {"role": "assistant", "content": self.text()},
        ]


def compared(message):
    usage = message["usage"]
    return {
        "content": [{key: value for key, value in block.items() if key != "id"} for block in message["content"]],
        "stop": (message["stop_reason"], message["stop_sequence"]),
        "prompt": usage["input_tokens"] + usage["cache_read_input_tokens"],
        "output": usage["output_tokens"],
        "kind": (message["type"], message["role"], message["model"]),
    }


def as_the_reference_says(theirs, ours):
    """Their answer with the accepted differences in it, if it is those."""
    if ours["stop"][0] == "stop_sequence" and theirs["stop"] in (("end_turn", None), ("end_turn", ours["stop"][1])):
        return theirs | {"stop": ours["stop"]}
    if ours["stop"][0] == theirs["stop"][0] == "max_tokens" and ours["content"] != theirs["content"]:
        return theirs | {"content": list(_without_halves(theirs["content"]))}
    return theirs


def _without_halves(content):
    for block in content:
        text = block.get("text", "").partition("<tool_call>")[0].removesuffix("\ufffd")
        if text or block["type"] != "text":
            yield block | ({"text": text} if block["type"] == "text" else {})


@contextlib.asynccontextmanager
async def both(models_dir, folder, settings):
    """(ours, theirs): clients of the gateway and of its only engine."""
    async with running_fleet(models_dir, runtime_dir=str(folder), default_models=[settings]) as fleet:
        (socket,) = folder.glob("*/engine-*.sock")
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=60) as engine:
            yield fleet.http, engine


async def said(client, request):
    answer = await client.post("/v1/messages", json=request)
    assert answer.status_code == 200, answer.text
    return compared(answer.json())


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("settings", "count"), [(SCRIPTED_MODEL, cases(100, 200)), (DEMO_MODEL, cases(6, 20))], ids=[SCRIPTED, DEMO]
)
def test_the_same_messages_say_the_same(models_dir, socket_dir, settings, count):
    """Generated requests with systems, histories, tools, unicode and stops: no difference but those above."""

    async def scenario():
        async with both(models_dir, socket_dir, settings) as (ours, theirs):
            made = Requests(SEED)
            for number in range(count):
                request = made.request(settings["model_id"])
                expected, told = await said(theirs, request), await said(ours, request)
                assert told == as_the_reference_says(expected, told), (number, request)

    asyncio.run(scenario())


def _texts(*texts):
    return [{"type": "text", "text": text} for text in texts]


def _with_result(content, **more):
    call = {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"city": "Paris"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **more}
    return {
        "messages": [
            {"role": "user", "content": "Where?"},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result]},
        ],
        "tools": TOOLS,
    }


def _turns(*contents):
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(contents)]


# What is asked of us → what llama.cpp has to be asked for the same prompt.
DIFFERENT = {
    "system blocks": (
        {"messages": _turns("hi"), "system": _texts("One.", "Two.")},
        {"messages": _turns("hi"), "system": "One.\n\nTwo."},
    ),
    "result blocks": (_with_result(_texts("a", "b")), _with_result("a\nb")),
    "failed tools": (_with_result("no such city", is_error=True), _with_result("Error: no such city")),
    "system turns": (
        {"messages": [*_turns("a", "b"), {"role": "system", "content": "now"}, *_turns("c")]},
        {"messages": _turns("a", "b", "<system-reminder>\nnow\n</system-reminder>\nc")},
    ),
}


def test_every_accepted_difference_is_that_and_no_more(models_dir, socket_dir):
    """Each has a request with which llama.cpp comes to the same prompt and the same answer."""

    async def scenario():
        async with both(models_dir, socket_dir, SCRIPTED_MODEL) as (ours, theirs):
            shared = {"model": SCRIPTED, "max_tokens": 40, "temperature": 0}
            for name, (asked, equivalent) in DIFFERENT.items():
                assert await said(ours, shared | asked) == await said(theirs, shared | equivalent), name

    asyncio.run(scenario())

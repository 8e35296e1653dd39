"""Token routes of a neuron: the same answers from a loaded engine and from a vocabulary alone."""

import asyncio
from typing import Any

import pytest
from helpers.gateways import eventually
from helpers.live import DEMO, DEMO_MODEL, ENDLESS_MODEL, SCRIPTED, SCRIPTED_MODEL, endless, running_neuron
from helpers.processes import children
from helpers.waiting import until

from cortex.tasks import running

pytestmark = pytest.mark.model
SPM = "sentencepiece"
COUNT = "/v1/chat/completions/input_tokens"
TEXTS = [
    "",
    " ",
    "Hello, world",
    "\n\n\t  x = 1;  \r\n",
    "Café 😀 日本 👩‍💻 ß ﬁ Ⅷ",
    "<|im_start|>system<|im_end|> </s> [INST]",
    "0123456789 3.14159 1e-9 0xDEADBEEF",
    "def f(a, b):\n    return {'k': [a, *b]}\n",
    "don't won't I'll they're",
    "a" * 3000,
    "العربية עברית हिन्दी ไทย",
]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
CHATS: list[dict[str, Any]] = [
    *({"messages": [{"role": "user", "content": text}]} for text in TEXTS),
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]},
    {"messages": [{"role": "user", "content": "weather?"}], "tools": [TOOL]},
    {"messages": [{"role": "user", "content": "weather?"}], "tools": [TOOL], "tool_choice": "none"},
    {
        "messages": [
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "18 C"},
        ],
        "tools": [TOOL],
    },
]


async def _answers(neuron, model):
    """Everything that the routes say of the corpus."""
    said = []

    async def ask(path, **body):
        answer = await neuron.http.post(path, json={"model": model, **body})
        assert answer.status_code == 200, answer.text
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers.get("server") != "llama.cpp"
        return answer.json()

    for text in TEXTS:
        tokens = (await ask("/tokenize", content=text))["tokens"]
        said += [tokens, await ask("/tokenize", content=text, add_special=True, parse_special=False)]
        said += [await ask("/detokenize", tokens=tokens)]
    for chat in CHATS:
        said += [await ask(COUNT, **chat), await ask("/apply-template", **chat)]
    return said


@pytest.fixture(name="folder")
def _folder(models_dir, old_llama_dir, tmp_path):
    """The models, and one whose vocabulary is SentencePiece's."""
    for model in models_dir.iterdir():
        (tmp_path / model.name).symlink_to(model.resolve())
    (tmp_path / f"{SPM}.gguf").symlink_to(old_llama_dir / "spm.gguf")
    return tmp_path


@pytest.mark.parametrize(
    "model", [SCRIPTED_MODEL, DEMO_MODEL, DEMO_MODEL | {"model_id": SPM}], ids=[SCRIPTED, DEMO, SPM]
)
def test_a_vocabulary_answers_as_its_model_does(folder, model):
    """Tokens, texts, prompts and counts are the same while the model is cold and once it is loaded, and cold asking loads nothing."""

    async def scenario():
        async with running_neuron(folder) as neuron:
            name = model["model_id"]
            settings = {key: model[key] for key in ("chat_template",) if key in model}
            with_settings = _Asking(neuron, settings)
            cold = await _answers(with_settings, name)
            assert await neuron.get("/models") == []
            assert (await neuron.load(model)).status_code == 200
            assert await _answers(neuron, name) == cold

    asyncio.run(scenario())


class _Asking:
    """A neuron that is told with every question how the model would be loaded."""

    def __init__(self, neuron, settings):
        self.http = self
        self._neuron = neuron
        self._settings = settings

    async def post(self, path, json):
        return await self._neuron.http.post(path, json=json | {"load": self._settings})


def test_a_count_is_the_usage_of_the_answer(models_dir):
    """The counted prompt is what the engine then says it read."""

    async def scenario():
        async with running_neuron(models_dir, default_models=[SCRIPTED_MODEL]) as neuron:
            for chat in CHATS:
                body = {"model": SCRIPTED, **chat}
                counted = (await neuron.http.post(COUNT, json=body)).json()["input_tokens"]
                await _loaded(neuron)
                answer = await neuron.http.post("/v1/chat/completions", json=body | {"max_tokens": 8})
                assert answer.json()["usage"]["prompt_tokens"] == counted, chat

    asyncio.run(scenario())


async def _loaded(neuron):
    async def ready():
        return (await neuron.get("/health"))["activation"]["state"] == "ready"

    await eventually(ready)


def test_counting_takes_no_place(models_dir):
    """A model whose only place is taken counts all the same."""

    async def scenario():
        one = ENDLESS_MODEL | {"parallel": 1, "max_queue_depth": 0}
        async with running_neuron(models_dir, default_models=[one]) as neuron:
            await _loaded(neuron)
            async with neuron.http.stream("POST", "/v1/chat/completions", json=endless()) as busy:
                assert busy.status_code == 200
                refused = await neuron.chat(SCRIPTED, "hi")
                assert refused.status_code == 429
                counted = await neuron.http.post(COUNT, json=endless())
                assert counted.json()["input_tokens"] > 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/tokenize", {}, 400, "model"),
        ("/tokenize", {"model": SCRIPTED}, 400, "content"),
        ("/tokenize", {"model": SCRIPTED, "content": 3}, 400, "content"),
        ("/tokenize", {"model": SCRIPTED, "content": "x", "add_special": "yes"}, 400, "add_special"),
        ("/detokenize", {"model": SCRIPTED, "tokens": "x"}, 400, "tokens"),
        ("/detokenize", {"model": SCRIPTED, "tokens": [1, -1]}, 400, "tokens.1"),
        (COUNT, {"model": SCRIPTED}, 400, "messages"),
        (COUNT, {"model": SCRIPTED, "messages": [{"role": "king", "content": "x"}]}, 400, "messages[0].role"),
        (COUNT, {"model": SCRIPTED, "messages": [], "load": 3}, 400, "load"),
        ("/apply-template", {"model": "nobody/knows", "messages": []}, 404, "model"),
    ],
)
def test_bad_requests_name_their_field(models_dir, path, body, status, param):
    """What is wrong is told with its place, before anything is started."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            answer = await neuron.http.post(path, json=body)
            assert answer.status_code == status, answer.text
            assert answer.json()["error"]["param"] == param, answer.text

    asyncio.run(scenario())


def test_an_unknown_token_is_the_callers_mistake(models_dir):
    """A token id beyond the vocabulary is a 400, though the engine calls it its own failure."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            answer = await neuron.http.post("/detokenize", json={"model": SCRIPTED, "tokens": [1, 10**9]})
            assert answer.status_code == 400, answer.text

    asyncio.run(scenario())


def test_questions_at_once_share_one_vocabulary(models_dir):
    """Many clients that count with a cold model start one engine, and those that leave do not end it for the others."""

    async def scenario():
        async with running_neuron(models_dir) as neuron:
            body = {"model": SCRIPTED, "messages": [{"role": "user", "content": "hi"}]}
            async with running(neuron.http.post(COUNT, json=body), name="leaves") as leaving:
                await until(children)
                leaving.cancel()
                answers = await asyncio.gather(*(neuron.http.post(COUNT, json=body) for _ in range(5)))
            assert {answer.json()["input_tokens"] for answer in answers} == {answers[0].json()["input_tokens"]}
            assert len(children()) == 1

    asyncio.run(scenario())

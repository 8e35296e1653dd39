"""Chat templates: which one it is, what it writes, and that none of them takes more than it may."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest
from helpers.legacy_ggml import ANSWER, PROMPT
from helpers.live import running_neuron
from helpers.processes import only_child

from cortex.neuron.harness.ctransformers_engine.rendering import render
from cortex.neuron.harness.ctransformers_engine.templates import FAMILIES, chat_template

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
RENDERED = {
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
    "llama-2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST]",
    "vicuna": "Be brief. USER: Hi ASSISTANT: Hello</s>USER: Bye ASSISTANT:",
    "alpaca": "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello\n\n### Instruction:\nBye\n\n### Response:\n",
}


@pytest.mark.parametrize("family", RENDERED)
def test_families_write_what_models_were_trained_with(family: str) -> None:
    """Nothing is added that nobody said: without a system message there is none."""
    template = chat_template(family, None, {})
    assert template
    assert render(template.source, TALK, VARIABLES) == RENDERED[family]
    bare = render(template.source, TALK[1:], VARIABLES)
    assert "Be brief" not in bare
    assert "SYS" not in bare


def test_the_operator_s_template_wins_over_the_file_s() -> None:
    """Then the file's own, then ChatML where the vocabulary has its markers; else there is none."""

    def source(named: str | None, own: str | None, *markers: str) -> str | None:
        found = chat_template(named, own, dict.fromkeys(markers, 1))
        return found.source if found else None

    assert source("{{ 1 }}", "{{ 2 }}") == "{{ 1 }}"
    assert source(None, "{{ 2 }}", "<|im_start|>") == "{{ 2 }}"
    assert source(None, None, "<|im_start|>") == FAMILIES["chatml"].template
    assert source(None, None, "</s>") is None


def test_a_family_that_is_none_is_refused_by_name() -> None:
    """A typo is not taken for a template."""
    with pytest.raises(ValueError, match="known are chatml"):
        chat_template("chatlm", None, {})


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("messages[1]|tojson", '{"role": "user", "content": "Hi"}'),
        ("messages[1]|tojson(ensure_ascii=True, separators=(',', ':'))", '{"role":"user","content":"Hi"}'),
        ("messages[1]|tojson(sort_keys=True)", '{"content": "Hi", "role": "user"}'),
        ("'é'|tojson", '"é"'),
        ("'é'|tojson(ensure_ascii=True)", '"\\u00e9"'),
        ("strftime_now('%%')", "%"),
        ("bos_token ~ add_generation_prompt", "<s>True"),
    ],
)
def test_templates_find_what_their_authors_had(expression: str, text: str) -> None:
    """The filters and functions of the library that they were written for, with its arguments."""
    assert render("{{ " + expression + " }}", TALK, VARIABLES) == text


# Renders each template in a sandbox of its own process: one that forks is no part of a test's own.
_RENDERER = """
import json, sys
from cortex.neuron.harness.ctransformers_engine.sandbox import Sandbox
sandbox, talk = Sandbox(cpu_s=0.1), [{"role": "user", "content": "Hi"}]
for source in json.load(sys.stdin):
    try:
        told = sandbox.render(source, talk, {})
    except ValueError as error:
        told = f"refused: {error}"
    try:
        sandbox.check(source)
        compiled = "compiles"
    except ValueError as error:
        compiled = str(error)
    print(json.dumps([told, compiled]))
"""
_TIME, _MEMORY, _DEPTH = "processor time", "too much memory", "deeper than"
HOSTILE = {
    "{{ raise_exception('roles must alternate') }}": "roles must alternate",
    "{{ messages.__class__.__mro__ }}": "unsafe",
    "{{ ''.__class__.__subclasses__() }}": "unsafe",
    "{{ messages[9].content }}": "no element 9",
    "{{ 1 / messages|length - 1 / 0 }}": "division by zero",
    "{{ messages + 1 }}": "concatenate",
    "{% for i in range(10**9) %}{% endfor %}": "Range too big",
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}": _TIME,
    "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}": _TIME,
    "{{ lipsum(n=10**9) }}": _TIME,
    "{{ 7 ** (7 ** 12) }}": _TIME,
    "{% set n = namespace(x=[1]) %}{% for i in range(40) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}": _TIME,
    "{{ 'x' * 10**10 }}": _MEMORY,
    "{{ messages[0].content * 10**10 }}": _MEMORY,
    "{{ messages[0].content|center(10**10) }}": _MEMORY,
    "{{ '%09999999999d' % 1 }}": _MEMORY,
    "{{ (1).to_bytes(10**10, 'big') }}": _MEMORY,
    "{{ messages[0].content * 10**7 }}": "far more than it was given",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": _DEPTH,
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}": _DEPTH,
    "{{ '\\ud800' }}": "surrogates",
    "{{ raise_exception('no' * 10**6) }}": "nonono",
}


def test_no_template_takes_more_than_it_may() -> None:
    """Loops, powers, recursion, doubling, widths, also where the compiler would compute them: each is refused with its reason, and the next is rendered."""
    sources = [source for hostile in HOSTILE for source in (hostile, "{{ messages[0].content }}")]
    done = subprocess.run(
        [sys.executable, "-c", _RENDERER],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    for (source, words), (answer, _), good in zip(HOSTILE.items(), told[::2], told[1::2], strict=True):
        assert answer.startswith("refused: "), source
        assert words in answer, source
        assert len(answer) < 1000, source
        assert good == ["Hi", "compiles"]
    compiled = {source: words for source, (_, words) in zip(sources, told, strict=True)}
    assert _TIME in compiled["{{ 7 ** (7 ** 12) }}"]
    assert _DEPTH in compiled["{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}"]


@pytest.mark.model
def test_a_hostile_template_ends_no_engine_and_keeps_nobody_waiting(legacy_dir) -> None:
    """Its chats are typed errors, completions are answered beside them, and the engine is the same process."""
    sources = {
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}": "processor time",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "deeper than",
    }

    async def scenario() -> None:
        async with running_neuron(legacy_dir) as neuron:
            for source, words in sources.items():
                assert (
                    await neuron.load({"model_id": "gpt2", "threads": 1, "chat_template": source})
                ).status_code == 200
                pid = only_child()
                body = {"model": "gpt2", "prompt": PROMPT, "max_tokens": 4, "temperature": 0}
                chat, text = await asyncio.gather(
                    neuron.chat("gpt2", "hi"), neuron.http.post("/v1/completions", json=body)
                )
                error = chat.json()["error"]
                assert (chat.status_code, error["code"], error["param"]) == (422, "template_render_failed", "messages")
                assert words in error["message"]
                assert text.json()["choices"][0]["text"] == ANSWER
                assert only_child() == pid
                await neuron.http.post("/models/unload", json={"model_id": "gpt2"})

    asyncio.run(scenario())


@pytest.mark.model
@pytest.mark.parametrize("source", ["{{ x", "{% for %}"])
def test_a_template_that_is_none_is_refused_at_the_load(legacy_dir, source: str) -> None:
    """It does not compile, and that is said."""

    async def scenario() -> None:
        async with running_neuron(legacy_dir) as neuron:
            refused = await neuron.load({"model_id": "gpt2", "threads": 1, "chat_template": source})
            assert refused.status_code == 422, refused.text
            assert "the chat template is not right" in refused.json()["error"]["message"]

    asyncio.run(scenario())

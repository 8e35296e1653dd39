"""Agents and SDKs of other languages, unmodified, against gateway + neuron + a real engine whose model follows a script.

They run in scratch homes, and may run `echo` and nothing else. `build/test clients` installs them and takes the network
away; without them each is skipped with its name.
"""

import asyncio
import contextlib
import json
import logging
from pathlib import Path

import pytest
from helpers.live import SCRIPTED, SCRIPTED_MODEL, running_fleet
from helpers.programs import INSTALLED, Program, missing
from helpers.scripted_gguf import script_text

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(300)]
AGENT_MODEL = SCRIPTED_MODEL | {"context": 65536}  # an agent's first prompt has 30,000 tokens
HELLO, AFTER = script_text("hello"), script_text("after")
NODE = Path(__file__).parent / "node"
CLAUDE = "claude-own"


def needs(program):
    why = missing(program)
    return pytest.mark.skipif(why is not None, reason=why or "")


@contextlib.asynccontextmanager
async def _fleet(models_dir, *, cold=False):
    catalogue = {
        "models": [{"id": SCRIPTED, "threads": 1, "context": AGENT_MODEL["context"]}],
        "aliases": {CLAUDE: {"model": SCRIPTED, "display_name": "Our own"}, "*": SCRIPTED},
    }
    loaded = [] if cold else [AGENT_MODEL]
    async with running_fleet(models_dir, catalogue=catalogue, default_models=loaded) as fleet:
        yield fleet


# ---- Claude Code


def _claude(folder, url):
    quiet = dict.fromkeys(
        (
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
            "DISABLE_TELEMETRY",
            "DISABLE_ERROR_REPORTING",
            "DISABLE_AUTOUPDATER",
        ),
        "1",
    )
    return Program(folder, {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": "any", **quiet})


async def _ask_claude(claude, prompt, model=SCRIPTED):
    told = await claude.run(
        "claude", "-p", prompt, "--model", model, "--output-format", "json", "--allowedTools", "Bash(echo:*)"
    )
    result = json.loads(told)
    assert result["subtype"] == "success", told
    return result


@needs("claude")
def test_claude_code_has_a_conversation(models_dir, tmp_path):
    """Plain text by an alias of ours; and whatever model it names by itself is taken by the catch-all."""

    async def scenario():
        async with _fleet(models_dir) as fleet:
            claude = _claude(tmp_path, fleet.url)
            assert (await _ask_claude(claude, "[[text]] hi", CLAUDE))["result"] == HELLO
            assert (await _ask_claude(claude, "[[text]] hi", "claude-sonnet-9"))["result"] == HELLO

    asyncio.run(scenario())


@needs("claude")
@pytest.mark.parametrize("cold", [False, True], ids=["loaded", "cold"])
def test_claude_code_uses_a_tool(models_dir, tmp_path, cold):
    """It runs the command that the model calls, sends what came of it, and the second turn is read from the cache; also when the model is loaded only now."""

    async def scenario():
        async with _fleet(models_dir, cold=cold) as fleet:
            told = await _ask_claude(_claude(tmp_path, fleet.url), "Run it, please.")
            assert (told["result"], told["num_turns"]) == (AFTER, 2)
            usage = told["usage"]
            assert usage["cache_read_input_tokens"] > 0.9 * usage["input_tokens"] > 10_000

    asyncio.run(scenario())


@needs("claude")
def test_claude_code_counts_its_context(models_dir, tmp_path, caplog):
    """`/context` asks count_tokens for each of its parts, and shows no error."""
    caplog.set_level(logging.INFO, "cortex.access")

    async def scenario():
        async with _fleet(models_dir) as fleet:
            told = await _ask_claude(_claude(tmp_path, fleet.url), "/context")
            assert "Context Usage" in told["result"]
        counted = [
            record.getMessage() for record in caplog.records if "/v1/messages/count_tokens" in record.getMessage()
        ]
        assert len(counted) > 3
        assert all(line.endswith(" 200") for line in counted)

    asyncio.run(scenario())


# ---- Codex


@needs("codex")
@pytest.mark.parametrize("cold", [False, True], ids=["loaded", "cold"])
def test_codex_uses_a_tool(models_dir, tmp_path, cold):
    """It speaks the Responses API: the call is carried out, its output sent, and the turn completed; also from cold."""

    async def scenario():
        async with _fleet(models_dir, cold=cold) as fleet:
            codex = Program(tmp_path, {"LOCAL_KEY": "any"})
            codex.file(
                ".codex/config.toml",
                f"""model = "{SCRIPTED}"
model_provider = "local"
[model_providers.local]
name = "local"
base_url = "{fleet.url}/v1"
env_key = "LOCAL_KEY"
wire_api = "responses"
""",
            )
            told = await codex.run("codex", "exec", "--skip-git-repo-check", "--json", "Run it, please.")
            events = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
            items = [event["item"] for event in events if event["type"] == "item.completed"]
            (ran,) = [item for item in items if item["type"] == "command_execution"]
            assert (ran["aggregated_output"], ran["exit_code"]) == ("scripted-tool-ok\n", 0)
            assert [item["text"] for item in items if item["type"] == "agent_message"] == [AFTER]
            assert events[-1]["type"] == "turn.completed"

    asyncio.run(scenario())


# ---- opencode


@needs("opencode")
def test_opencode_uses_a_tool(models_dir, tmp_path):
    """Chat completions through the AI SDK: title and turn, a tool's call and its answer."""

    async def scenario():
        async with _fleet(models_dir) as fleet:
            quiet = ("OPENCODE_DISABLE_AUTOUPDATE", "OPENCODE_DISABLE_MODELS_FETCH", "OPENCODE_DISABLE_LSP_DOWNLOAD")
            opencode = Program(tmp_path, dict.fromkeys(quiet, "1"))
            provider = {
                "npm": "@ai-sdk/openai-compatible",
                "options": {"baseURL": f"{fleet.url}/v1", "apiKey": "any"},
                "models": {SCRIPTED: {}},
            }
            settings = {
                "provider": {"local": provider},
                "enabled_providers": ["local"],
                "model": f"local/{SCRIPTED}",
                "small_model": f"local/{SCRIPTED}",
                "autoupdate": False,
                "permission": {"*": "deny", "bash": {"*": "deny", "echo *": "allow"}},
            }
            (opencode.work / "opencode.json").write_text(json.dumps(settings))
            assert AFTER in await opencode.run("opencode", "run", "Run it, please.")

    asyncio.run(scenario())


# ---- SDKs of Node


@needs("node")
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_an_sdk_of_node(models_dir, tmp_path, sdk):
    """Text, stream, tool round trip and errors, as the script beside this file asserts them."""
    if why := missing("anthropic-ai-sdk"):
        pytest.skip(why)

    async def scenario():
        async with _fleet(models_dir) as fleet:
            script = tmp_path / f"{sdk}.mjs"
            script.write_text((NODE / f"{sdk}.mjs").read_text())
            (tmp_path / "node_modules").symlink_to(INSTALLED / "node_modules")
            told = await Program(tmp_path, {"BASE_URL": fleet.url, "MODEL": SCRIPTED}).run("node", str(script))
            assert json.loads(told) == {"text": HELLO, "streamed": HELLO, "after": AFTER, "unknown": 404}

    asyncio.run(scenario())


# ---- Python


@needs("llm")
@pytest.mark.parametrize("stream", [True, False])
def test_llm(models_dir, tmp_path, stream):
    """Simon Willison's `llm`, streamed and not."""

    async def scenario():
        async with _fleet(models_dir) as fleet:
            llm = Program(tmp_path)
            entry = f"- model_id: own\n  model_name: {SCRIPTED}\n  api_base: {fleet.url}/v1\n"
            llm.file(".config/io.datasette.llm/extra-openai-models.yaml", entry)
            more = [] if stream else ["--no-stream"]
            assert (await llm.run("llm", "-m", "own", "--key", "any", *more, "hi")).strip() == HELLO

    asyncio.run(scenario())


LANGCHAIN = """
import os
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

@tool
def get_weather(city: str) -> str:
    "The weather of a city"
    return "18 C"

url, model = os.environ["BASE_URL"], os.environ["MODEL"]
for chat in (
    ChatOpenAI(base_url=url + "/v1", api_key="any", model=model),
    ChatOpenAI(base_url=url + "/v1", api_key="any", model=model, use_responses_api=True),
    ChatAnthropic(base_url=url, api_key="any", model_name=model),
):
    print(chat.invoke("hi").text)
    print("".join(piece.text for piece in chat.stream("hi")))
    (call,) = chat.bind_tools([get_weather]).invoke("Weather?").tool_calls
    print(call["name"], call["args"]["city"])
"""


@needs("llm")
def test_langchain(models_dir, tmp_path):
    """Its OpenAI class over both of OpenAI's APIs, and its Anthropic class: text, stream and tools."""

    async def scenario():
        async with _fleet(models_dir) as fleet:
            langchain = Program(tmp_path, {"BASE_URL": fleet.url, "MODEL": SCRIPTED})
            told = await langchain.run("python", "-c", LANGCHAIN)
            assert told.splitlines() == [HELLO, HELLO, "get_weather Paris"] * 3

    asyncio.run(scenario())


@needs("aider")
def test_aider(models_dir, tmp_path):
    """Through LiteLLM, streamed: what it prints has the model's answer, and no file is touched."""

    async def scenario():
        async with _fleet(models_dir) as fleet:
            aider = Program(tmp_path, {"OPENAI_API_BASE": f"{fleet.url}/v1", "OPENAI_API_KEY": "any"})
            quiet = (
                "--no-show-model-warnings --no-check-update --analytics-disable --yes-always --no-pretty "
                "--no-git --map-tokens 0 --no-show-release-notes"
            )
            told = await aider.run("aider", "--model", f"openai/{SCRIPTED}", *quiet.split(), "--message", "hi")
            assert HELLO in told
            assert not [path for path in aider.work.iterdir() if not path.name.startswith(".aider")]

    asyncio.run(scenario())
